"""`internvl plan --calibrate`, and a real run held against what it forecast."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines import calibrating
from pipelines.calibrating import calibrate_all
from pipelines.cli import app
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.training_price import Training, training_prices
from stages.forecasts import compare, forecast_key
from stages.manifest import ManifestError
from stages.materialize import materialize
from stages.ref import Ref
from stages.training import meters


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def call(*given: str) -> Result:
    return CliRunner().invoke(app, list(given))


def language_alone(steps: list[Step]) -> list[Training]:
    return [each for each in training_prices(steps) if each.stage == "language"]


def test_a_real_run_is_held_against_its_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "training_prices", language_alone)
    monkeypatch.setattr(meters, "METER_STEPS", 3)
    made = call("plan", "smoke", "--calibrate", "--keep", "--json")
    assert made.exit_code == 0, made.output
    found = json.loads(made.output)
    (budget,) = found["budget"]
    assert budget["stage"] == "language" and budget["step_seconds"] > 0 and found["cluster"] is None
    assert "measured on" in budget["utilisation_source"] and "GFLOP/s useful" in found["calibrated"][0]
    store, ref = Store(settings().store_root), Ref(name="checkpoints/language", version="smoke")
    later = call("plan", "smoke")
    assert "time on this machine" in later.output and "GFLOP/s useful on each CPU, measured on" in later.output

    step = next(step for step in steps_of(FlowName.TRAIN, RecipeName.SMOKE) if step.spec.artifact == ref)
    materialize(step.spec, store, InlineCluster())
    seconds, flops = compare(ref, store)
    assert seconds.forecast == budget["step_seconds"] and seconds.fact > 0
    assert flops.ratio == pytest.approx(1, abs=0.25), "texts are forecast as long as those of the first steps"
    whole = language_alone(steps_of(FlowName.TRAIN, RecipeName.SMOKE))[0]
    assert flops.forecast < 0.8 * whole.flops / 3, "which are shorter than they might be"
    run = json.loads(store.read(ref.key("run.json")))
    assert run["forecast_against_fact"] == [seconds.as_json(), flops.as_json()]
    assert "forecast / fact" in call("plan", "smoke").output

    before = store.read(forecast_key(ref))
    refused = call("plan", "smoke", "--keep")
    assert refused.exit_code == 0 and store.read(forecast_key(ref)) == before, "after the run it is no forecast"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_what_trains_on_gpus_is_calibrated_on_one() -> None:
    steps, store = steps_of(FlowName.TRAIN, RecipeName.PAPER), Store(settings().store_root)
    with pytest.raises(ManifestError, match="contrastive: its placement asks for a GPU, and this machine has none"):
        calibrate_all(steps, store)
    assert calibrating.gpus_here() is None and not store.keys("calibrations")
