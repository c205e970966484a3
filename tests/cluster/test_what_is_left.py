"""Secrets that a person's environment holds are in nothing that a run leaves behind."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from equipped import Equipped, spellings

from infra.settings import Settings
from infra.storage import Store
from pipelines.launcher import ray_folder

pytestmark = pytest.mark.timeout(1800)


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
    """Return everything that the road left: (where, bytes)."""
    here = equipped.here
    yield from files_below(here.home)
    yield from files_below(ray_folder(Settings(home=here.home, store_root=here.store.root)))
    yield from objects_of(equipped.on_s3.store)
    yield "Prefect's database", equipped.database.dump().encode()
    yield "Ray's jobs", repr(here.jobs()).encode()
    yield from (("a command line", line) for line in equipped.command_lines)


def test_no_secret_is_in_what_a_road_leaves_behind(equipped: Equipped) -> None:
    canaries = {name: spellings(secret) for name, secret in equipped.canaries.items()}
    token = str(equipped.here.home / "ray" / "token")
    seen, leaks = 0, []
    for where, data in left_behind(equipped):
        seen += 1
        leaks += [(where, name) for name in found_in(data, canaries) if (where, name) != (token, "ray")]
    assert leaks == []
    assert seen > 500 and any(b"stages.run" in line for line in equipped.command_lines), "nothing was looked at"


def test_the_search_finds_what_is_there() -> None:
    ways = {"mine": spellings("canary-of-mine-0123456789")}
    for before in ("", "a", "admin:"):
        assert found_in(base64.b64encode(f"{before}canary-of-mine-0123456789".encode()), ways) == ["mine"]
    assert found_in(b"x canary-of-mine-0123456789", ways) == ["mine"] and found_in(b"canary-of-min", ways) == []
