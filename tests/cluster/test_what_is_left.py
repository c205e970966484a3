"""Secrets that a person's environment holds are in nothing that a run leaves behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from canaries import files_below, leaks
from equipped import Equipped

from infra.settings import Settings
from infra.storage import Store
from pipelines.launcher import ray_folder

pytestmark = pytest.mark.timeout(1800)


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
    left = list(left_behind(equipped))
    assert leaks(left, equipped.canaries, equipped.homes) == []
    assert len(left) > 500, "nothing was looked at"
    assert any(b"stages.run" in line for line in equipped.command_lines)
    for name, path in equipped.homes.items():
        assert leaks([(path, Path(path).read_bytes())], equipped.canaries, {}) == [f"{name} in {path}"], "looked for"
