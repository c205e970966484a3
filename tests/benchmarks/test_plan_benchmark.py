"""The benchmark of forecasts, at a size that takes no time: its numbers mean nothing, its arithmetic does."""

import pytest

from benchmarks import plan
from benchmarks.plan import CALIBRATED, Configuration


@pytest.mark.parametrize("stage", plan.STAGES)
def test_every_stage_is_held_against_its_calibration(stage: str) -> None:
    few = {CALIBRATED: Configuration(1, 1, 32, 4), "deeper": Configuration(2, 2, 32, 4)}
    result = plan.measure((stage,), few, rounds=1)
    base, deeper = result["stages"][stage].values()
    assert base["ratio"] == pytest.approx(1), "at what was calibrated the forecast is the fact"
    assert deeper["flops"] > base["flops"] and deeper["parameters"] > base["parameters"]
    assert deeper["ratio"] == pytest.approx(deeper["forecast"] / deeper["seconds"])
    told = {**result, "goal": 0.0, "stages": {stage: {"x": {**base, "ratio": 2.0}}}}
    assert "beyond the goal" in plan.table(told) and "beyond" not in plan.table({**told, "goal": 2.0})
