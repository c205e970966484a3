"""Secrets that a person's environment holds are in nothing that a run leaves behind."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from canaries import files_below, leaks
from equipped import Equipped
from installation import Installation

from infra.settings import Settings
from infra.storage import Store
from pipelines.launcher import ray_folder


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
    left = [*left_behind(equipped), ("what a refused run printed", told.encode())]
    assert leaks(left, equipped.canaries, {"ray": str(equipped.here.home / "ray" / "token")}) == []
    seen = Counter(where.partition("/")[0] for where, _ in left)
    assert seen[""] > 500 and seen["s3:"] > 50, "nothing was looked at"
    assert any(b"stages.run" in line for line in equipped.command_lines)
