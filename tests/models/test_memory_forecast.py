"""The forecast of a step's memory against what PyTorch's allocator handed out while the step ran."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import measured_memory
import pytest
from measured_memory import ROWS, SHAPES, SPREAD, measured

from benchmarks.gpu_models import STAGES
from models.memory_forecast import MASTER, MOMENTS, forecast
from models.memory_trace import Block
from models.memory_walk import Moment, Section, Spread, moments, worst
from pipelines.plan_memory import fit
from stages.placement import Placement

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "results" / "gpu.json"


def planned(kind: str, placement: Placement, found: dict[str, int]) -> int:
    """Return what the planner says that one process holds, the batch aside: it was there before what is measured."""
    shape = SHAPES[kind]
    rows = shape.tokens // shape.length if shape.packed else ROWS
    memory = fit(
        shape, found["parameters"], found["trained"], placement,
        global_batch=rows * placement.workers, precision="fp32", sharding=placement.sharding, room=0,
    ).memory  # fmt: skip
    return memory.total - memory.batch


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_forecast_is_within_a_tenth_of_the_measured_peak(kind: str, recompute: bool) -> None:
    found = measured(kind, recompute)
    said = planned(kind, Placement(activation_checkpointing=recompute), found)
    assert said == pytest.approx(found["states"] + found["peak"], rel=0.1)


def test_so_it_is_over_two_processes(tmp_path: Path) -> None:
    words = [measured_memory.__file__, str(tmp_path / "meeting"), str(tmp_path / "answer")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=True, timeout=240)
    told = json.loads((tmp_path / "answer").read_text())
    for sharding, kind in SPREAD.items():
        found = told[sharding]
        placement = Placement(workers=2, sharding=sharding, activation_checkpointing=True)  # type: ignore[arg-type]
        # The buckets of DDP, in which gradients lie, are handed out before the step.
        buckets = MASTER * found["trained"] if sharding == "ddp" else 0
        fact = found["states"] + found["peak"] + buckets
        assert planned(kind, placement, found) == pytest.approx(fact, rel=0.1), sharding


@pytest.mark.parametrize(("name", "way"), [("S1-true", "recomputed"), ("S1-true", "kept"), ("S3-2B", "recomputed")])
def test_a_gpu_held_what_is_forecast(name: str, way: str) -> None:
    """Of true widths, in bfloat16 and several micro batches (benchmarks/results/gpu.json)."""
    found, stage = json.loads(GPU.read_text())["stages"][name][way], STAGES[name]
    held, rows = found["held"], found["rows"]
    placement = Placement(micro_batch_size=rows, activation_checkpointing=way == "recomputed")
    memory = fit(
        stage.shape, found["parameters"], found["trained"], placement, precision="bf16", sharding="ddp", room=0,
        global_batch=stage.samples(stage.shape, rows) * found["micro_batches"],
    ).memory  # fmt: skip
    assert memory.total == pytest.approx(held["peak"], rel=0.02)
    for category in ("weights", "optimizer", "batch"):
        assert getattr(memory, category) == pytest.approx(held[category], rel=0.02), category
    beside = memory.gradients + memory.activations + memory.loss
    assert beside == pytest.approx(held["forward_and_backward"], rel=0.03)


def test_what_a_gpu_took_is_within_the_goals_of_what_was_forecast() -> None:
    """The figures as they were forecast before the run; compiled layers hold less, and are not calibrated."""
    stages = json.loads(GPU.read_text())["stages"]
    ways = [told for each in stages.values() for way, told in each.items() if "compiled" not in way]
    assert len(ways) == 5
    for told in ways:
        assert told["forecast"]["total"] == pytest.approx(told["held"]["peak"], rel=0.1)
        assert told["forecast_seconds"] == pytest.approx(sum(told["seconds"].values()), rel=0.25)


ONE = Block("one", kept=10, forward=14, backward=30, gradients=8, weights=8)
TWO = Block("two", kept=20, forward=21, backward=50, gradients=16, weights=16)


def test_a_walk_by_hand() -> None:
    found = moments([Section((ONE, TWO))], Spread())
    assert found == [
        Moment("one, forward", 14, 0),
        Moment("two, forward", 31, 0),
        Moment("two, backward", 10 + 34, 16),
        Moment("one, backward", 22, 16 + 8),
        Moment("the optimizer", 0, 24),
    ]
    assert worst([Section((ONE, TWO))], Spread()).total == 60


def test_a_frozen_tower_leaves_only_what_it_returns() -> None:
    frozen = replace(ONE, backward=0, gradients=0)
    found = moments([Section((frozen, frozen), left=3), Section((TWO,))], Spread())
    assert [each.activations for each in found] == [14, 24, 3 + 21, 3 + 34, 0]


def test_shards_and_gradients_that_wait() -> None:
    shards = moments([Section((ONE, TWO))], Spread(2, sharded=True), root=5)
    assert [each.gathered for each in shards] == [5 + 16, 5 + 32, 5 + 32 + 32, 5 + 16 + 16, 0]
    assert [each.gradients for each in shards] == [0, 0, 0, 8, 12]
    waiting = moments([Section((ONE, TWO))], Spread(waiting=True))
    assert [each.gradients for each in waiting] == [24, 24, 24 + 8, 24 + 4, 24]


def test_copies_of_weights_stay_to_the_end_of_the_forward_pass() -> None:
    first, last = replace(ONE, copies=4), replace(TWO, copies=100)
    found = moments([Section((first, last, ONE))], Spread())
    assert [each.activations for each in found][:3] == [14, 10 + 21 + 4, 30 + 14 + 16], "no more than all that learns"
    assert found[3].activations == 30 + 22, "and are gone when it is over"


def test_categories_add_up() -> None:
    found = forecast([Section((ONE, TWO))], 100, 50, Spread(2, sharded=True), root=5, batch=7, kept=2, framework=9)
    assert (found.weights, found.optimizer, found.batch, found.framework) == (200, MOMENTS * 25, 7, 9)
    assert found.total == sum(value for value in vars(found).values() if isinstance(value, int))
    assert found.as_json()["total"] == found.total and found.where == "two, backward"
    loss = forecast([Section((ONE, replace(TWO, name="head and loss")))], 100, 6, Spread())
    assert (loss.loss, loss.activations) == (34, 10), "what the loss itself holds is told apart"
