"""A step computed again: the same losses, the samples that broke it, and errors that say the next move."""

import math
from pathlib import Path

import pytest
import torch
from placed_runs import SMALL
from typer.testing import CliRunner
from watched_runs import REF, Watched, make, rows_of_batch

from infra.storage import Store
from models.contrastive_objective import ContrastiveObjective
from models.internvl import InternVL
from pipelines.cli import app
from stages.checkpoints import jsonl
from stages.manifest import ManifestError
from stages.ref import Ref
from stages.training.explaining import _load, explain
from stages.training.flight_records import flight_key, flight_records
from stages.training.task import Finished

LOUD = rows_of_batch(40)[3]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("stages.training.flight_records.STAGES", "watched_runs")
    return Store(str(tmp_path / "store"))


def test_code_that_a_file_names_is_taken_from_stages_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        make(store, tmp_path, stop_at=1)
    monkeypatch.setattr("stages.training.flight_records.STAGES", "stages.")
    with pytest.raises(ManifestError, match="names watched_runs, which is no stage"):
        explain(store, REF, 1, tmp_path)


def test_a_step_of_a_run_that_stopped_is_computed_from_its_state(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        make(store, tmp_path, loud=(LOUD,), stop_at=45)
    (event,) = [record for record in flight_records(store, REF) if record["kind"] == "event"]
    found = explain(store, REF, 41, tmp_path / "scratch", shown=3)
    assert found.weights == "the state after step 40" and found.batch == 40 and len(found.samples) == 3
    # The poison was put into the data by the test; without it this step is as the run would have been.
    assert event["samples"][0]["row"] == LOUD and LOUD in rows_of_batch(found.batch)
    assert found.terms["loss"] < 10 and math.hypot(*found.norms.values()) > 0
    assert found.culprits == "all outputs and gradients are finite"


def test_what_another_run_of_the_name_left_tells_nothing_of_this_one(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        make(store, tmp_path, loud=(LOUD,), stop_at=45)
    (*_, left) = flight_records(store, REF)
    store.write(flight_key(REF), jsonl([{**left, "step": 41, "batch": 7, "run": "another"}]))
    assert explain(store, REF, 41, tmp_path / "scratch", shown=1).batch == 40
    store.write(flight_key(REF), jsonl([{**left, "step": 41, "batch": 7}]))
    assert explain(store, REF, 41, tmp_path / "scratch", shown=1).batch == 7, "its own record is the last word"


def test_a_step_of_a_finished_run_is_computed_from_its_checkpoint(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path)
    done = CliRunner().invoke(app, ["explain-spike", str(REF), "--step", "7", "--samples", "2"])
    assert done.exit_code == 0, done.output
    assert "the finished checkpoint" in done.output and "first" in done.output
    assert sum(f"uid-{row}" in done.output for row in rows_of_batch(6)) >= 2


def test_a_checkpoint_without_what_was_learned_beside_the_model_is_no_start() -> None:
    for loss, lacking in (("softmax", []), ("sigmoid", ["logit_bias"])):
        trained, fresh = (ContrastiveObjective(InternVL(SMALL, generative=False), loss=loss) for _ in range(2))
        assert _load(fresh, trained.model.state_dict()) == lacking
        assert torch.equal(fresh.model.text_projection, trained.model.text_projection)


def test_a_finished_run_whose_checkpoint_lacks_trained_weights_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_log(self: Watched) -> Finished:
        weights = self.module.state_dict()
        return Finished({n: w for n, w in weights.items() if n != "log"})

    monkeypatch.setattr(Watched, "finish", without_log)
    make(store, tmp_path)
    with pytest.raises(ManifestError, match=r"not hold all that its objective trained \(log\).* from its states"):
        explain(store, REF, 7, tmp_path / "scratch")


def test_errors_say_the_next_move(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no training of this name ran here"):
        explain(store, Ref(name="checkpoints/none", version="x"), 1, tmp_path)
    with pytest.raises(SystemExit):
        make(store, tmp_path, stop_at=15)
    with pytest.raises(ManifestError, match="steps 1 to 100; there is no step 101"):
        explain(store, REF, 101, tmp_path)
    with pytest.raises(ManifestError, match=r"no state of step 4 or before .* smaller placement\.checkpoint_steps"):
        explain(store, REF, 5, tmp_path)
    assert CliRunner().invoke(app, ["explain-spike", "nonsense", "--step", "1"]).exit_code != 0
