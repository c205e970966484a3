"""A state holds all that the next steps depend on, lies in plain files, and fits any number of processes."""

import itertools
import json
import os
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from forked_runs import Forks
from training_jobs import restore_and_compare, states_of

from infra.storage import Store
from stages.manifest import ManifestError, load
from stages.training import pieces, restoring, state_reader
from stages.training.gang import Refused
from stages.training.order import Order, Source
from stages.training.pieces import Box
from stages.training.schedule import Schedule
from stages.training.state_files import STATE, Folder, find_states
from stages.training.state_writer import Keeping, prune
from stages.training.states import FAILED, WRITTEN
from stages.training.stopping import Stopped

SCHEDULE = toy_run.SCHEDULE


def half(store: Store, tmp_path: Path, stop_at: int = 5, **placement: Any) -> None:
    """Train until a power cut; states are at every third step."""
    with pytest.raises(SystemExit, match="power cut"):
        toy_run.make(store, tmp_path, placement, stop_at=stop_at)


def whole(store: Store, tmp_path: Path, **placement: Any) -> dict[str, bytes]:
    tmp_path.mkdir(exist_ok=True)
    return toy_run.result(store, toy_run.make(store, tmp_path, placement), tmp_path / "files")


def forget_the_optimizer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state_reader, "_remember", lambda placed, targets: None)


def forget_the_schedule(patch: pytest.MonkeyPatch) -> None:
    real = Schedule.factor
    patch.setattr(Schedule, "factor", lambda self, step: real(self, step - 3))


def forget_the_generators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restoring, "set_rng_states", lambda found: None)


def forget_the_data(patch: pytest.MonkeyPatch) -> None:
    real = toy_run.Batches.__call__

    def from_the_start(self: toy_run.Batches, rows: Any, step: int) -> Any:
        order = Order(SCHEDULE.seed, [Source("samples", (toy_run.SAMPLES,))])
        return real(self, order.rows(step - 3, SCHEDULE.global_batch_size), step)

    patch.setattr(toy_run.Batches, "__call__", from_the_start)


def forget_nothing(patch: pytest.MonkeyPatch) -> None:
    pass


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return whole(Store(str(folder / "store")), folder)


@pytest.mark.parametrize(
    ("forget", "same"),
    [
        (forget_nothing, True),
        (forget_the_optimizer, False),
        (forget_the_schedule, False),
        (forget_the_generators, False),
        (forget_the_data, False),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one_only_where_nothing_is_forgotten(
    store: Store, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch,
    forget: Any, same: bool,
) -> None:  # fmt: skip
    half(store, tmp_path)
    forget(monkeypatch)
    found = whole(store, tmp_path)
    assert (found["model.safetensors"] == uninterrupted["model.safetensors"]) is same
    assert (found["history.jsonl"] == uninterrupted["history.jsonl"]) is same


def test_a_state_on_s3_is_as_good(s3_store: Store, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    half(s3_store, tmp_path, stop_at=7)
    assert len(toy_run.state_keys(s3_store, "/state.json")) == 2
    assert whole(s3_store, tmp_path) == uninterrupted


def test_a_state_holds_what_learns_in_plain_files(store: Store, tmp_path: Path) -> None:
    half(store, tmp_path)
    names = {key.rpartition("/")[2] for key in toy_run.state_keys(store)}
    shard = "shard-00000-of-00001"
    assert names == {f"{shard}.safetensors", f"{shard}.json", "history.jsonl", "state.json", "latest.json"}
    (record,) = toy_run.state_keys(store, f"{shard}.json")
    stored = set(json.loads(store.read(record))["pieces"])
    assert {"module/scale", "module/seen", "optimizer/exp_avg/image.weight", "optimizer/step/scale"} <= stored
    assert not {name for name in stored if "frozen" in name or "scratch" in name}


def test_the_last_ones_and_the_best_stay(store: Store, tmp_path: Path) -> None:
    half(store, tmp_path, 10, checkpoint_steps=1, states_kept=2, best_metric="loss", best_is="higher")
    (latest,) = toy_run.state_keys(store, "latest.json")
    found = find_states(store, latest.rpartition("/")[0])
    losses = {folder.step: folder.state().metrics["loss"] for folder in found.whole.values()}
    last = max(found.whole)
    history = [json.loads(line) for line in store.read(found.whole[last].key("history.jsonl")).splitlines()]
    worst = max(range(1, len(history) + 1), key=lambda step: history[step - 1]["loss"])
    assert worst < 9, "the best by this metric is not one of the last"
    assert sorted(losses) == [worst, 9, 10] and found.partial == []
    assert losses[worst] == history[worst - 1]["loss"]


@pytest.mark.parametrize(
    ("placement", "words"),
    [({"states_kept": 0}, "at least 1"), ({"best_metric": "x"}, "choose"), ({"on_failed_save": "x"}, "go_on")],
)
def test_a_wish_that_cannot_be_met_is_refused(store: Store, tmp_path: Path, placement: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        toy_run.make(store, tmp_path, placement)


def test_a_metric_that_nothing_measures_is_refused_at_the_first_step(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"best_metric 'x' is not measured by a step; choose one of .*loss"):
        toy_run.make(store, tmp_path, {"best_metric": "x", "checkpoint_steps": 1000}, stop_at=1)


def test_a_roll_back_takes_an_earlier_state_and_what_follows_is_newer_than_what_was_left(
    store: Store, tmp_path: Path
) -> None:
    half(store, tmp_path, stop_at=7)
    _, _, found = states_of(store, False, tmp_path / "scratch", "")
    newest, earlier = found.restore(), found.restore(last_step=5)
    assert newest is not None and earlier is not None and (newest.step, earlier.step) == (6, 3)
    assert earlier.history == newest.history[:3] and len(earlier.extras["guard"]["losses"]) == 3
    found.save(4, [*earlier.history, {"step": 4.0, "loss": 1.0}], {"guard": {"skipped": [[3, 9]]}})
    found.settle()
    again = found.restore()
    assert again is not None and (again.step, again.extras) == (4, {"guard": {"skipped": [[3, 9]]}})
    assert found.restore(last_step=2) is None
    found.close()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_changes_nothing(
    store: Store, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    half(store, tmp_path, stop_at=7)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    for number, key in enumerate(toy_run.state_keys(store)):
        os.utime(store.path(key), (0, real() - hours * 3600 * number))
    taken: list[int] = []
    real_load = restoring.Restorer._load

    def noted(self: restoring.Restorer, reading: Any) -> Any:
        taken.append(reading.state.step)
        return real_load(self, reading)

    monkeypatch.setattr(restoring.Restorer, "_load", noted)
    assert whole(store, tmp_path) == uninterrupted
    assert taken == [6], "the newest by its number, whatever the files' dates say"


@pytest.mark.parametrize("sharded", [False, True])
def test_pieces_of_two_processes_fit_one_and_two_in_either_cut(
    forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    assert forks.run(tmp_path, 2, job="training_jobs:step_and_save", sharded=sharded) == [0, 0], forks.said()
    written = toy_run.state_keys(Store(str(tmp_path / "store")), ".safetensors")
    assert len(written) == 2, "both processes wrote their share"
    restore_and_compare(tmp_path, sharded=False)
    assert forks.run(tmp_path, 2, job="training_jobs:restore_and_compare", sharded=not sharded) == [0, 0], (
        forks.said()
    )
    monkeypatch.setattr(state_reader, "copy_piece", lambda *_: None)
    with pytest.raises(AssertionError):
        restore_and_compare(tmp_path, sharded=False)


def test_two_one_two_processes_see_the_same_samples_and_the_same_losses(forks: Forks, tmp_path: Path) -> None:
    straight, changing = tmp_path / "straight", tmp_path / "changing"
    moves = [(2, {"sharding": "fsdp2"}, 4), (1, {"micro_batch_size": 2}, 7), (2, {}, None)]
    for folder, runs in ((straight, [(2, {}, None)]), (changing, moves)):
        folder.mkdir()
        for processes, placement, stop in runs:
            given = {"noise": False, "signal_at": stop and (stop, 15), "trace": str(folder)}
            codes = forks.run(folder, processes, placement, **given)
            assert codes == [75 if stop else 0] * processes, forks.said()

    def told(folder: Path) -> tuple[dict[int, list[int]], list[float]]:
        rows: dict[int, list[int]] = {}
        for rank in (0, 1):
            for line in (folder / f"rows-{rank}.txt").read_text().splitlines():
                step, *numbers = map(int, line.split())
                rows.setdefault(step, []).extend(numbers)
        store = Store(str(folder))
        found = toy_run.result(store, load(store, toy_run.REF), folder / "files")
        return rows, [json.loads(line)["loss"] for line in found["history.jsonl"].splitlines()]

    (rows, losses), (changed, moved) = told(straight), told(changing)
    assert changed == rows and sorted(rows) == list(range(toy_run.STEPS))
    assert moved == pytest.approx(losses, rel=1e-5)


def test_an_optimizer_with_a_layout_of_its_own_is_refused(store: Store, tmp_path: Path) -> None:
    _, placed, found = states_of(store, False, tmp_path / "scratch")
    pieces.bare_optimizer(placed).state[torch.zeros(9)] = {"exp_avg": torch.zeros(9)}
    with pytest.raises(ManifestError, match=r"choose another schedule\.optimizer"):
        found.save(1, [{"loss": 1.0}])
    found.close()


class EndsBetween(Future[None]):
    """A work that fails just after it was asked whether it is done."""

    def done(self) -> bool:
        ended = super().done()
        if not ended:
            self.set_exception(OSError("full"))
        return ended


@pytest.mark.parametrize("which", ["_writing", "_publishing"])
def test_a_work_that_fails_between_two_questions_is_not_taken_for_done(
    store: Store, tmp_path: Path, which: str
) -> None:
    gang, _, found = states_of(store, False, tmp_path / "scratch")
    setattr(found, which, EndsBetween())
    values = gang.mean(found.signals())
    assert (values[WRITTEN], values[FAILED]) == (0.0, 0.0)
    found.heed(values)
    assert gang.mean(found.signals())[FAILED] == 1.0, "and it is told with the next step"
    with pytest.raises(Refused):
        found.settle()
    (refusal,) = toy_run.state_keys(store, "refusal.txt")
    assert b"was not saved: full" in store.read(refusal)
    found.close()


def test_a_finish_that_fails_repeats_no_training(
    store: Store, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(self: toy_run.Toy) -> Any:
        raise SystemExit("a power cut")

    with monkeypatch.context() as patch:
        patch.setattr(toy_run.Toy, "finish", cut_off)
        half(store, tmp_path, stop_at=toy_run.STEPS)
    monkeypatch.setattr(toy_run.Batches, "__call__", lambda *_: pytest.fail("it trains again"))
    assert whole(store, tmp_path) == uninterrupted


def test_a_stop_that_is_asked_for_in_the_last_step_is_heard(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=f"stopped after step {toy_run.STEPS} at SIGTERM"):
        toy_run.make(store, tmp_path, signal_at=(toy_run.STEPS - 1, 15))
    assert toy_run.make(store, tmp_path).totals["steps"] == toy_run.STEPS


def test_boxes_meet_where_both_are() -> None:
    for a, b in itertools.product(range(6), repeat=2):
        one, other = Box((a, 0), (3, 2)), Box((b, 0), (2, 2))
        both = one.meet(other)
        expected = sorted(set(range(a, a + 3)) & set(range(b, b + 2)))
        assert (list(range(both.offset[0], both.offset[0] + both.shape[0])) if both else []) == expected
        if both:
            rows, columns = both.inside(one)
            assert (rows.start, rows.stop, columns) == (expected[0] - a, expected[-1] + 1 - a, slice(0, 2))


def test_a_way_back_stays_and_moves_on_with_the_run(store: Store) -> None:
    keeping, at = Keeping(last=1, reach=50), []
    for number in range(1, 41):
        folder = Folder(store, "run", number, 10 * number)
        store.write(folder.key(STATE), b"{}")
        prune(store, "run", number, keeping)
        steps = [each.step for each in find_states(store, "run").whole.values()]
        at.append(steps)
        assert steps[-1] == folder.step and len(steps) <= 3
        assert steps[0] == 10 or folder.step - 101 <= steps[0] <= folder.step - 50
    assert at[3] == [10, 40] and at[-1][0] >= 300


def test_whole_tensors_are_dealt_out_evenly() -> None:
    sizes = {f"t{number}": number + 1 for number in range(40)}
    dealt = pieces.deal(sizes, 4)
    load = [sum(sizes[name] for name in dealt if dealt[name] == rank) for rank in range(4)]
    assert dealt.keys() == sizes.keys() and max(load) - min(load) <= 2
    assert pieces.deal(dict(reversed(sizes.items())), 4) == dealt
