"""Secrets that a person's environment holds are in nothing that a run leaves behind."""

import base64
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from equipped import Equipped, spellings
from installation import Installation

from infra.settings import Settings
from infra.storage import Store
from pipelines.launcher import ray_folder


def found_in(data: bytes, canaries: dict[str, list[bytes]]) -> list[str]:
    return [name for name, ways in canaries.items() if any(way in data for way in ways)]


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()


def objects_of(store: Store) -> Iterator[tuple[str, bytes]]:
    for key in store.keys(""):
        yield f"{store.root}/{key}", store.read(key)


def left_behind(equipped: Equipped) -> Iterator[tuple[str, bytes]]:
    """Return everything that the roads left: (where, bytes)."""
    here = equipped.here
    yield from files_below(here.home)
    yield from files_below(ray_folder(Settings(home=here.home, store_root=here.store.root)))
    yield from objects_of(equipped.on_s3.store)
    yield "Prefect's database", equipped.database.dump().encode()
    yield "Ray's jobs", repr(here.jobs()).encode()
    yield from (("a command line", line) for line in tuple(equipped.command_lines))


def test_no_secret_is_in_what_roads_leave_behind(
    equipped: Equipped, data_on_s3: Installation, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("link,text\nhttp://127.0.0.1:1/a.jpg,a picture of a cat\n")
    words = ("run", "data", "--recipe", "photos", "--urls", str(tmp_path / "list.csv"), "--version", "refused")
    told = equipped.here.internvl(*words, code=2, timeout=1200)
    canaries = {name: spellings(secret) for name, secret in equipped.canaries.items()}
    token = str(equipped.here.home / "ray" / "token")
    seen, leaks = Counter[str](), []
    for where, data in chain(left_behind(equipped), [("what a refused run printed", told.encode())]):
        seen[where.partition("/")[0]] += 1
        leaks += [(where, name) for name in found_in(data, canaries) if (where, name) != (token, "ray")]
    assert leaks == []
    assert seen[""] > 500 and seen["s3:"] > 50, "nothing was looked at"
    assert any(b"stages.run" in line for line in equipped.command_lines)


def test_the_search_finds_what_is_there() -> None:
    ways = {"mine": spellings("canary-of-mine-0123456789")}
    for before in ("", "a", "admin:"):
        assert found_in(base64.b64encode(f"{before}canary-of-mine-0123456789".encode()), ways) == ["mine"]
    assert found_in(b"x canary-of-mine-0123456789", ways) == ["mine"] and found_in(b"canary-of-min", ways) == []
