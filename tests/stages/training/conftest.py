"""One process that forks training runs, and what runs that nothing happened to end with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
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
    found = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"untouched-{processes}")
        assert forks.run(folder, processes, trace=str(folder)) == [0] * processes, forks.said()
        found[processes] = toy_run.result(Store(str(folder)), load(Store(str(folder)), toy_run.REF), folder / "files")
        for rank in range(processes):
            found[processes][f"losses-{rank}"] = (folder / f"losses-{rank}.txt").read_bytes()
    return found
