"""One process that forks training runs, and what runs that nothing happened to end with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import real_stages
import toy_run
from forked_runs import Forks

from infra.storage import Store
from stages.manifest import load


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Start the process that forks."""
    found = Forks(tmp_path_factory.mktemp("forks"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def untouched(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """Return what undisturbed runs leave behind, by the number of processes."""
    return {processes: _undisturbed(forks, tmp_path_factory, processes, {}) for processes in (1, 2)}


@pytest.fixture(scope="session")
def untouched_in_halves(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """Return the same for runs that compute each process's share in two micro batches."""
    return {
        processes: _undisturbed(forks, tmp_path_factory, processes, {"micro_batch_size": 4 // processes})
        for processes in (1, 2)
    }


def _undisturbed(
    forks: Forks, folders: pytest.TempPathFactory, processes: int, placement: dict[str, int]
) -> dict[str, bytes]:
    folder = folders.mktemp(f"untouched-{processes}")
    assert forks.run(folder, processes, placement, trace=str(folder)) == [0] * processes, forks.said()
    store = Store(str(folder))
    found = toy_run.result(store, load(store, toy_run.REF), folder / "files")
    for rank in range(processes):
        found[f"losses-{rank}"] = (folder / f"losses-{rank}.txt").read_bytes()
    return found


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the real stages read, once."""
    folder = tmp_path_factory.mktemp("world")
    real_stages.make_world(folder)
    return folder
