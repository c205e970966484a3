"""Poisoned runs: what is skipped, gone back from, stopped at, and written down; with one process and with two."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import watched_runs
from installation import free_port
from safetensors.torch import load
from watched_runs import REF, make, rows_of_batch

from infra.storage import Store
from stages.checkpoints import fetch
from stages.forecasts import meters_key
from stages.manifest import Manifest, ManifestError
from stages.training import flight
from stages.training.audit import audit_run
from stages.training.curves import curves_key
from stages.training.flight_records import flight_records

WINDOW = tuple(rows_of_batch(batch)[3] for batch in (70, 71, 72))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def history(store: Store, manifest: Manifest, folder: Path) -> list[dict[str, float]]:
    lines = (fetch(store, manifest, folder) / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def tail(rows: list[dict[str, float]]) -> float:
    return sum(row["loss"] for row in rows[-20:]) / 20


def events(store: Store) -> list[dict[str, Any]]:
    return [record for record in flight_records(store, REF) if record["kind"] == "event"]


def test_a_loud_batch_is_skipped_and_told_of(store: Store, tmp_path: Path) -> None:
    rows = history(store, make(store, tmp_path, loud=WINDOW[:1]), tmp_path / "files")
    assert [row["step"] for row in rows if "skipped" in row] == [71] and len(rows) == 100
    (event,) = events(store)
    assert (event["step"], event["batch"], event["act"]) == (71, 70, "skip")
    assert event["samples"][0] == {**event["samples"][0], "uid": f"uid-{WINDOW[0]}", "process": 0, "language": "en"}
    assert {"first", "last", "log"} == set(event["gradient_norms"])
    assert math.hypot(*event["gradient_norms"].values()) == pytest.approx(event["values"]["grad_norm"], rel=1e-3)
    around = [(record["kind"], record["step"]) for record in flight_records(store, REF)]
    assert around == [*(("before", step) for step in range(67, 71)), ("event", 71), ("after", 72), ("after", 73)]


def test_three_loud_batches_go_back_leave_their_window_out_and_the_curve_recovers(
    store: Store, tmp_path: Path
) -> None:
    made = make(store, tmp_path, loud=WINDOW)
    rows = history(store, made, tmp_path / "files")
    clean_store = Store(str(tmp_path / "clean"))
    clean = history(clean_store, make(clean_store, tmp_path), tmp_path / "clean-files")
    assert not any("skipped" in row for row in rows) and [row["step"] for row in rows] == list(range(1, 101))
    assert rows[:70] == clean[:70] and tail(rows) == pytest.approx(tail(clean), rel=0.25)
    assert tail(rows) < 0.5 * rows[0]["loss"]
    assert made.parts[0].facts["order"]["detours"] == [{"step": 72, "at": 70, "first": 70, "last": 72}]
    audit = audit_run(store, made)
    assert audit.sound and audit.left_out == 3 * 8
    assert [event["act"] for event in events(store)] == ["skip", "skip", "roll back"]


def test_trouble_again_stops_and_names_samples_and_the_halved_rate(store: Store, tmp_path: Path) -> None:
    again = tuple(rows_of_batch(batch)[0] for batch in (80, 81, 82))
    with pytest.raises(ManifestError) as stopped:
        make(store, tmp_path, loud=WINDOW + again)
    said = str(stopped.value)
    assert (
        f"uid-{again[2]}" in said and "0.02 -> 0.01" in said and "explain-spike" in said and "trouble again" in said
    )


def test_a_state_from_before_slow_trouble_is_still_there(store: Store, tmp_path: Path) -> None:
    slow = tuple(rows_of_batch(batch)[3] for batch in (50, 70, 90))
    made = make(store, tmp_path, {"checkpoint_steps": 5, "states_kept": 1}, loud=slow)
    (detour,) = made.parts[0].facts["order"]["detours"]
    assert (detour["step"], detour["last"]) == (90, 90) and 0 < detour["at"] <= 50


def test_without_a_state_there_is_no_way_back(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot go back \(placement.checkpoint_steps 1000, states_kept 2\)"):
        make(store, tmp_path, {"checkpoint_steps": 1000}, loud=WINDOW)


def test_a_run_cut_off_between_skips_ends_like_one_that_was_not(store: Store, tmp_path: Path) -> None:
    whole = Store(str(tmp_path / "whole"))
    expected = fetch(whole, make(whole, tmp_path, loud=WINDOW), tmp_path / "expected")
    with pytest.raises(SystemExit):
        make(store, tmp_path, {"checkpoint_steps": 6}, loud=WINDOW, stop_at=73)
    found = fetch(store, make(store, tmp_path, loud=WINDOW), tmp_path / "found")
    # The states lie elsewhere, so it goes back further: the data that is left out is the same, and it ends as well.
    one, other = (json.loads((at / "history.jsonl").read_text().splitlines()[-1]) for at in (expected, found))
    assert one["step"] == other["step"] == 100 and other["loss"] == pytest.approx(one["loss"], rel=0.5)


def test_a_skipped_step_leaves_weights_and_optimizer_untouched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.training.placing import Placed
    from stages.training.watch import Watch

    seen = []

    def state(placed: Placed) -> list[Any]:
        memory = [placed.optimizer.state[p] for p in placed.trained]
        return [p.detach().clone() for p in placed.trained] + [v.clone() for each in memory for v in each.values()]

    forgo, judge = Placed.forgo, Watch.judge
    before: list[Any] = []

    def judged(self: Watch, *given: Any) -> Any:
        before[:] = state(self._recorder._placed)
        return judge(self, *given)

    def forgone(self: Placed) -> None:
        forgo(self)
        seen.append(all(bool((a == b).all()) for a, b in zip(before, state(self), strict=True)))
        assert all(parameter.grad is None for parameter in self.trained)

    monkeypatch.setattr(Placed, "forgo", forgone)
    monkeypatch.setattr(Watch, "judge", judged)
    make(store, tmp_path, broken=WINDOW[:1])
    assert seen == [True]


def test_the_recorder_is_bounded(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "MOST_RECORDS", 5)
    monkeypatch.setattr(flight, "MOST_SAMPLES", 3)
    make(store, tmp_path, loud=WINDOW[:2])
    records = flight_records(store, REF)
    assert len(records) == 5 and records[-1]["step"] == 74
    assert all(len(record["samples"]) == 3 and record["samples_left_out"] == 5 for record in records)


def test_meters_curves_and_events_lie_beside_the_checkpoint_and_are_no_part_of_it(
    store: Store, tmp_path: Path, home: Path
) -> None:
    made = make(store, tmp_path)
    lines = [json.loads(line) for line in store.read(meters_key(REF)).splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 101, 10))
    last = lines[-1]
    assert set(last["loss"]) == {"language/en", "source/even", "source/odd"}
    assert last["samples_per_second"] > 0 and 0 <= last["data_wait"] <= 1 and last["peak_memory_bytes"] > 1e7
    assert {"update/first", "update/last", "gradient/first"} <= set(last["watch"])
    assert b"<svg" in store.read(curves_key(REF))
    assert not any("meters" in file.name or "curves" in file.name for file in made.files())
    assert list((home / "tensorboard" / REF.folder).glob("events.*"))


TWO = """
import sys
from pathlib import Path

from infra.storage import Store
import watched_runs as w

w.make(Store(sys.argv[1]), Path(sys.argv[2]), broken=(int(sys.argv[3]),))
"""


def test_nan_on_one_of_two_processes_is_skipped_by_both(store: Store, tmp_path: Path) -> None:
    poisoned = rows_of_batch(40)[6]
    command = [sys.executable, "-c", TWO, str(tmp_path / "store"), str(tmp_path), str(poisoned)]
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[2]), str(here.parents[1])]
    base = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    base |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}
    works = [
        subprocess.Popen(
            command, env={**base, "RANK": str(n), "LOCAL_RANK": str(n)}, stderr=subprocess.PIPE, text=True
        )
        for n in (0, 1)
    ]
    said = [work.communicate(timeout=240)[1] for work in works]
    assert [work.returncode for work in works] == [0, 0], said
    from stages.manifest import load as manifest_of

    made = manifest_of(store, REF)
    rows = history(store, made, tmp_path / "files")
    assert [row["step"] for row in rows if "skipped" in row] == [41]
    weights = load((tmp_path / "files" / "model.safetensors").read_bytes())
    assert all(bool(value.isfinite().all()) for value in weights.values())
    (event,) = events(store)
    worst = event["samples"][0]
    assert (worst["uid"], worst["process"], worst["loss"]) == (f"uid-{poisoned}", 1, "nan")
    assert event["values"]["loss"] == "nan" and "given to first" in event["first_not_finite"][1]
    assert event["first_not_finite"][0] == "process 0: all outputs and gradients are finite", "it is not to blame"


def test_gradients_beside_one_that_is_not_finite_are_recorded_as_they_were(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: watched_runs.Net, batch: Any, totals: Any = None) -> Any:
        found = forward(self, batch, totals)
        poisoned = bool((batch["wanted"] > 50).any())
        nothing = (self.log - self.log).abs()  # its root has a gradient that is not a number
        return {**found, "loss": found["loss"].clamp(max=4.0) + (nothing.sqrt() if poisoned else nothing)}

    forward = watched_runs.Net.forward
    monkeypatch.setattr(watched_runs.Net, "forward", broken)
    make(store, tmp_path, loud=WINDOW[:1])
    (event,) = events(store)
    norms = event["gradient_norms"]
    assert (event["values"]["grad_norm"], norms["log"]) == ("nan", "nan")
    assert all(math.isfinite(norms[name]) for name in ("first", "last"))


def test_a_poisoned_run_says_which_module_broke(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path, broken=WINDOW[:1])
    (event,) = events(store)
    assert event["first_not_finite"] == ["process 0: first not finite: what is given to first"]
    assert watched_runs.REF == REF
