"""How fast a device trains, and how the plan knows: measured for the same kind of card, or else assumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infra.settings import settings
from infra.storage import Store
from models.step_shape import Shape
from pipelines import utilisation as utilisations
from pipelines.budget import budgets
from pipelines.clusters import CARDS, gpus_of
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.plan_shapes import shapes_of
from pipelines.plan_tables import budget_sections
from pipelines.sections import markdown
from pipelines.training_price import training_prices
from pipelines.utilisation import Utilisation, utilisation
from stages import calibration
from stages.calibration import Calibration, widths_of
from stages.forecasts import meters_key
from stages.materialize import StageSpec


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)


def contrastive_of(steps: list[Step]) -> tuple[StageSpec, Shape]:
    spec = next(step.spec for step in steps if step.artifact == "checkpoints/contrastive")
    return spec, shapes_of({step.artifact.removeprefix("checkpoints/"): step.spec for step in steps})["contrastive"]


def test_a_measured_rate_is_named_and_is_of_one_kind_of_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, shape = contrastive_of(steps_of(FlowName.TRAIN, RecipeName.PAPER))
    file, store = tmp_path / "gpu.json", Store(settings().store_root)
    told = {"device": "NVIDIA H100 80GB", "stages": {"S1-true": {"recomputed": {"useful_tflops": 494.5}}}}
    file.write_text(json.dumps(told))
    monkeypatch.setattr(utilisations, "MEASURED", file)
    found = utilisation("contrastive", spec, shape, CARDS["H100"], store)
    assert found is not None and found.share == pytest.approx(0.5) and found.flops_per_second == 494.5e12
    assert found.source == "S1-true, recomputed, measured on NVIDIA H100 80GB"
    other = utilisation("contrastive", spec, shape, CARDS["A100"], store)
    said = "assumed (on NVIDIA H100 80GB S1-true, recomputed reached 50.0%)"
    assert other == Utilisation.of(0.4, CARDS["A100"], said)
    monkeypatch.setattr(utilisations, "MEASURED", tmp_path / "none.json")
    assert utilisation("contrastive", spec, shape, CARDS["H100"], store) == Utilisation.of(
        0.4, CARDS["H100"], "assumed"
    )
    assert utilisation("contrastive", spec, shape, None, store) is None, "of a CPU nothing is assumed"


def test_a_finished_run_lends_what_one_of_its_processes_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meters tell a share of products as they were measured, which is more than one of the data sheet's."""
    spec, shape = contrastive_of(steps_of(FlowName.TRAIN, RecipeName.PAPER))
    store = Store(settings().store_root)
    monkeypatch.setattr(utilisations, "find", lambda *_: "it stands")
    lines = [
        {"mfu": mfu, "matmul_peak_flops": 8 * 786e12, "processes": 8, "device": "NVIDIA H100 80GB HBM3"}
        for mfu in (0.25, 0.5, 0.3)
    ]
    store.write(meters_key(spec.artifact), "\n".join(json.dumps(each) for each in lines).encode())
    found = utilisation("contrastive", spec, shape, CARDS["H100"], store)
    assert found is not None and found.flops_per_second == pytest.approx(0.3 * 786e12)
    assert found.share == pytest.approx(0.3 * 786 / 989) and "own meters" in found.source
    other = utilisation("contrastive", spec, shape, CARDS["A100"], store)
    assert other is not None and other.source.startswith("assumed")


def test_a_calibration_goes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(FlowName.TRAIN, RecipeName.PAPER)
    (spec, shape), store = contrastive_of(steps), Store(settings().store_root)
    way = "bf16, recomputed, at once"
    tried = Calibration(
        stage="contrastive", device="NVIDIA A100-SXM4-80GB", way=way, widths=widths_of(shape, way), layers=4,
        rows=256, pieces=1, flops_per_second=156e12, update_seconds=1e-11, torch="2.12",
        measured_at="2026-11-26T07:40:00Z",
    )  # fmt: skip
    key = calibration.keep(store, tried)
    assert key.startswith("calibrations/NVIDIA-A100-SXM4-80GB/contrastive-")
    found = utilisation("contrastive", spec, shape, CARDS["A100"], store)
    assert found == Utilisation(156e12, "measured on NVIDIA A100-SXM4-80GB, 2026-11-26", 0.5, 1e-11)
    training = next(each for each in training_prices(steps) if each.stage == "contrastive")
    (budget,) = budgets(steps, [training], {}, store, gpus_of("640xA100"))
    compute = training.flops / 175_000 / 640 / 156e12
    assert budget.step_seconds == pytest.approx(compute + training.trained / 640 * 1e-11), "each updates its shard"
    assert "measured on NVIDIA A100" in markdown(budget_sections([budget], gpus_of("640xA100")))
    wider = replace(shape, tokens=shape.tokens + 1)
    other = utilisation("contrastive", spec, wider, CARDS["A100"], store)
    assert other is not None and other.source.startswith("assumed"), "what was measured is of its own widths"
    assert widths_of(shape.cut(2), way) == widths_of(shape, way), "of any depth"
