"""Killed at any moment and run again, a training ends bit for bit as if nothing had happened."""

import random
import signal
from pathlib import Path

import pytest
import toy_run
from forked_runs import Forks

from infra.failpoints import STATE_FAILPOINTS
from infra.storage import Store
from stages.manifest import load

KILLED = -signal.SIGKILL
pytestmark = pytest.mark.faults


def ended_as(untouched: dict[str, bytes], root: Path, processes: int) -> None:
    """Assert that weights, metrics and, in hexadecimal, the losses after the last start are those of `untouched`."""
    store = Store(str(root))
    found = toy_run.result(store, load(store, toy_run.REF), root / "files")
    assert found == {name: data for name, data in untouched.items() if not name.startswith("losses-")}
    for rank in range(processes):
        losses = (root / f"losses-{rank}.txt").read_bytes().splitlines()
        assert losses[-2:] == untouched[f"losses-{rank}"].splitlines()[-2:]
        assert set(losses) <= set(untouched[f"losses-{rank}"].splitlines())
    assert toy_run.state_keys(store) == [], "a finished run leaves no states"


def killed(codes: list[int], rank: int = 0) -> bool:
    return codes[rank] == KILLED and 0 not in codes


@pytest.mark.parametrize(("processes", "seed"), [(1, 1), (2, 3)])
def test_killed_at_a_random_step_with_gradients_in_flight(
    forks: Forks, untouched_in_halves: dict[int, dict[str, bytes]], tmp_path: Path, processes: int, seed: int
) -> None:
    passes, rank = 2 * random.Random(seed).randrange(4, toy_run.STEPS), seed % processes
    halves = {"micro_batch_size": 4 // processes}  # it dies with the gradients of the first half
    codes = forks.run(tmp_path, processes, halves, kill_in_backward=passes, rank=rank, trace=str(tmp_path))
    assert killed(codes, rank), forks.said()
    assert forks.run(tmp_path, processes, halves, trace=str(tmp_path)) == [0] * processes, forks.said()
    ended_as(untouched_in_halves[processes], tmp_path, processes)


@pytest.mark.parametrize(
    ("processes", "failpoint"), [*((1, each) for each in STATE_FAILPOINTS), (2, "after_shard"), (2, "before_state")]
)
def test_killed_during_a_save(
    forks: Forks, untouched: dict[int, dict[str, bytes]], tmp_path: Path, processes: int, failpoint: str
) -> None:
    # The second save has one before it to fall back on; the first removal comes with the third of two kept.
    nth = 1 if failpoint == "during_removal" else 2
    dying = {"INTERNVL_FAILPOINT": f"{failpoint}:kill:{nth}"}
    placement = {"checkpoint_steps": 3, "states_kept": 2}
    assert killed(forks.run(tmp_path, processes, placement, dying, trace=str(tmp_path))), forks.said()
    whole = toy_run.state_keys(Store(str(tmp_path)), "/state.json")
    steps = [int(key.split("/")[-2][-8:]) for key in whole]
    assert steps == {"after_state": [3, 6], "during_removal": [6, 9]}.get(failpoint, [3])
    assert forks.run(tmp_path, processes, trace=str(tmp_path)) == [0] * processes, forks.said()
    ended_as(untouched[processes], tmp_path, processes)


@pytest.mark.parametrize(("processes", "asked"), [(1, signal.SIGUSR1), (2, signal.SIGTERM)])
def test_asked_to_stop_all_save_at_one_step_leave_with_75_and_go_on(
    forks: Forks, untouched: dict[int, dict[str, bytes]], tmp_path: Path, processes: int, asked: signal.Signals
) -> None:
    rank = processes - 1
    codes = forks.run(tmp_path, processes, signal_at=(4, asked), rank=rank, trace=str(tmp_path))
    assert codes == [75] * processes, forks.said()
    assert f"stopped after step 5 at {asked.name}" in forks.said()
    assert toy_run.state_keys(Store(str(tmp_path)), "/state.json")[-1].split("/")[-2].endswith("step-00000005")
    assert forks.run(tmp_path, processes, trace=str(tmp_path)) == [0] * processes, forks.said()
    ended_as(untouched[processes], tmp_path, processes)
    for each in range(processes):
        assert (tmp_path / f"losses-{each}.txt").read_bytes() == untouched[processes][f"losses-{each}"]
