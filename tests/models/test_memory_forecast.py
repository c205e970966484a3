"""The forecast of a step's memory against what PyTorch's allocator handed out while the step ran."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import measured_memory
import pytest
from measured_memory import KINDS, measured, sections, world

from benchmarks.gpu_models import Shape
from models.memory_blocks import How, contrastive_blocks
from models.memory_forecast import MASTER, MOMENTS, forecast
from models.memory_trace import Block, Numbers
from models.memory_walk import Moment, Section, Spread, moments, worst

ALONE = Spread()
GPU = Path(__file__).parents[2] / "benchmarks" / "results" / "gpu.json"


def forecast_of(kind: str, recompute: bool, spread: Spread = ALONE) -> int:
    objective, _ = world(kind)
    named = list(objective.named_parameters())
    whole = sum(each.numel() for _, each in named)
    in_layers = sum(each.numel() for name, each in named if ".layers." in name)
    trained = sum(each.numel() for _, each in named if each.requires_grad)
    root = MASTER * (whole - in_layers) if spread.sharded else 0
    return forecast(sections(kind, recompute, spread.processes), whole, trained, spread, root=root).total


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forecast_is_within_a_tenth_of_the_measured_peak(kind: str, recompute: bool) -> None:
    found = measured(kind, recompute)
    assert forecast_of(kind, recompute) == pytest.approx(found["states"] + found["peak"], rel=0.1)


@pytest.mark.parametrize(("kind", "sharding"), [("contrastive", "fsdp2"), ("instruct", "ddp")])
def test_so_it_is_over_two_processes(kind: str, sharding: str, tmp_path: Path) -> None:
    def start(rank: int) -> subprocess.Popen[bytes]:
        words = [kind, "True", sharding, str(rank), "2", str(tmp_path / "meeting"), str(tmp_path / "answer")]
        return subprocess.Popen([sys.executable, measured_memory.__file__, *words], cwd=GPU.parents[2], env=env)

    env = {**os.environ, "PYTHONPATH": str(GPU.parents[2])}
    assert [each.wait(240) for each in [start(0), start(1)]] == [0, 0]
    found = json.loads((tmp_path / "answer").read_text())
    objective, _ = world(kind)
    trained = sum(each.numel() for each in objective.parameters() if each.requires_grad)
    # The buckets of DDP, in which gradients lie, are handed out before the step.
    buckets = MASTER * trained if sharding == "ddp" else 0
    spread = Spread(2, sharded=sharding == "fsdp2", waiting=sharding == "ddp")
    assert forecast_of(kind, True, spread) == pytest.approx(found["states"] + found["peak"] + buckets, rel=0.1)


@pytest.mark.parametrize("way", ["kept", "recomputed"])
def test_a_gpu_held_what_was_forecast(way: str) -> None:
    """Towers of the true widths on an H100 (benchmarks/results/gpu.json), 8 micro batches in one autocast."""
    found = json.loads(GPU.read_text())["stages"]["S1-true"][way]
    shape = Shape(**found["shape"])
    how = How(Numbers.of("bf16", False), way == "recomputed")
    blocks = contrastive_blocks(
        shape.config(), shape.micro_batch_size, shape.text_tokens, how, kept=98, everyone=shape.global_batch_size
    )
    trained = found["parameters"] - shape.vocab_size * shape.text_width
    # One context around the whole step keeps autocast's copies; else each block's are among what it keeps.
    copies = 2 * trained if way == "recomputed" else 0
    got = forecast(blocks, found["parameters"], trained, Spread(waiting=True), kept=copies)
    assert got.total / 2**30 == pytest.approx(found["peak_memory_gib"], rel=0.03)


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


def test_categories_add_up() -> None:
    found = forecast([Section((ONE, TWO))], 100, 50, Spread(2, sharded=True), root=5, batch=7, kept=2, framework=9)
    assert (found.weights, found.optimizer, found.batch, found.framework) == (200, MOMENTS * 25, 7, 9)
    assert found.total == sum(value for value in vars(found).values() if isinstance(value, int))
    assert found.as_json()["total"] == found.total and found.where == "two, backward"
    loss = forecast([Section((ONE, replace(TWO, name="head and loss")))], 100, 6, Spread())
    assert (loss.loss, loss.activations) == (34, 10), "what the loss itself holds is told apart"
