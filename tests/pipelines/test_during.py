"""Followers stand beside the trainings that a recipe measures, and the command says what cannot be followed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.storage import Store
from pipelines.cli import app
from pipelines.during import followed, with_followers
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.schedule import ready
from pipelines.wanted import Wanted
from stages.follow import Parameters
from stages.follow_points import Point, curve_key, curve_lines
from stages.manifest import ManifestError
from stages.ref import Ref

TRAINING = Ref(name="checkpoints/contrastive", version="tiny")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """Open a store that holds nothing."""
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    return Store(str(tmp_path / "home" / "store"))


def said(*words: str) -> str:
    return " ".join(CliRunner().invoke(app, list(words)).output.split())


def test_a_follower_starts_beside_its_training_and_not_after_it() -> None:
    road = steps_of(FlowName.TRAIN, RecipeName.TINY)
    steps = with_followers(road, every=10, best="training.last_loss")
    names = [step.artifact for step in steps]
    assert names.index("curves/contrastive") == names.index("checkpoints/contrastive") + 1
    follower = next(step for step in steps if step.artifact == "curves/contrastive")
    given = Parameters.model_validate(follower.spec.parameters)
    assert (given.training, given.every, given.best) == (TRAINING, 10, "training.last_loss")
    assert [each.artifact.name for each in given.evaluations] == ["evaluations/contrastive"]
    made = {"checkpoints/language", "shards/clean"}
    waiting = [step for step in steps if step.artifact not in made]
    free = [step.artifact for step in ready(steps, waiting, made)]
    assert free.index("checkpoints/contrastive") + 1 == free.index("curves/contrastive")
    assert with_followers(road, every=0) == road


def test_a_version_that_is_named_like_a_recipe_is_measured_by_it() -> None:
    spec, left_out = followed("checkpoints/contrastive@tiny", None, Wanted(), every=5)
    assert [each["stage"] for each in spec.parameters["evaluations"]] == ["evaluate"] and not left_out
    spec, _ = followed("checkpoints/contrastive@mine", None, Wanted())
    assert spec.parameters["evaluations"] == [] and str(spec.artifact) == "curves/contrastive@mine"


def test_what_is_not_trained_so_cannot_be_followed() -> None:
    with pytest.raises(ManifestError, match=r"shards/clean@tiny cannot be followed; .*checkpoints/generative"):
        followed("shards/clean@tiny", None, Wanted())
    assert "--best and --lower-is-better belong to --follow" in said("evaluate", str(TRAINING), "--best", "x")


def test_the_history_of_a_version_is_its_curve(store: Store) -> None:
    assert "never promoted, and nothing was measured" in said("checkpoints", "history", str(TRAINING))
    snapshot = Ref(name=TRAINING.name, version="tiny.step-00000010")
    points = [
        Point(step=10, number=1, passed_over=0, checkpoint=snapshot, metrics={"top1": 0.25, "training.last_loss": 2}),
        Point(step=40, number=4, passed_over=2, checkpoint=TRAINING, metrics={"top1": 0.5, "training.last_loss": 1}),
    ]
    store.write(curve_key(TRAINING), curve_lines(points))
    shown = said("checkpoints", "history", str(TRAINING))
    assert "top1" in shown and "0.25" in shown and "not kept" in shown
    assert "measured are top1, training.last_loss" in said(
        "checkpoints", "history", str(TRAINING), "--metric", "top5"
    )
