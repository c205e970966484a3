"""How near the forecast of a step's time comes: calibrated at one configuration, held against steps of others.

Of each training stage one configuration is calibrated, as `internvl plan --calibrate` does it; the others are deeper,
shallower, wider, or take more or fewer rows, and their real steps are timed interleaved with it, in CPU seconds on
one thread. A rate belongs to its widths: the wider ones show what comes of taking it elsewhere.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.timing import interleaved, publish, surroundings
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.step_shape import Shape
from stages.placement import Placement
from stages.training.schedule import Schedule
from stages.training.trial import Trial

RESULTS = Path(__file__).parent / "results" / "plan.json"
GOAL = 0.25
"""Most that a forecast is beside the fact, of the fact."""
ROUNDS = 3
SCHEDULE = Schedule(global_batch_size=1, steps=1, learning_rate=1e-4)


class Configuration(NamedTuple):
    """What is trained, and how much of it in a step."""

    vision_layers: int
    text_layers: int
    width: int
    rows: int


STAGES = ("language", "contrastive", "generative", "instruct")
CALIBRATED = "calibrated"
CONFIGURATIONS = {
    CALIBRATED: Configuration(4, 4, 256, 16),
    "deeper": Configuration(10, 8, 256, 16),
    "shallower": Configuration(2, 3, 256, 16),
    "more rows": Configuration(4, 4, 256, 32),
    "fewer rows": Configuration(4, 4, 256, 8),
    "wider": Configuration(4, 4, 384, 16),
}


def shape_of(stage: str, given: Configuration) -> tuple[Shape, int]:
    """Return what a stage computes in a configuration, and how many rows at once; a pack holds half as many."""
    heads = given.width // 32
    vision = VisionConfig(
        image_size=64,
        patch_size=8,
        hidden_size=given.width,
        num_hidden_layers=given.vision_layers,
        num_attention_heads=heads,
        intermediate_size=4 * given.width,
    )
    text = TextConfig(
        vocab_size=700,
        hidden_size=given.width,
        intermediate_size=2 * given.width,
        num_hidden_layers=given.text_layers,
        num_attention_heads=heads,
    )
    if stage == "language":
        return Shape(stage, text=text, tokens=64), given.rows
    if stage == "instruct":
        chat = ChatConfig(vision=vision, text=text, image_context_token_id=699, eos_token_id=2)
        length, rows = 64, given.rows // 2
        return Shape(stage, chat=chat, tokens=rows * length, tiles=rows, length=length, packed=True), 1
    towers = InternVLConfig(
        vision=vision, text=text, embed_dim=64, attn_pool_num_heads=4, num_query_token=16, context_length=24
    )
    kept = 32 if stage == "contrastive" else None
    return Shape(stage, towers=towers, tokens=24, kept=kept), given.rows


def measure_stage(stage: str, configurations: dict[str, Configuration], rounds: int) -> dict[str, Any]:
    """Return forecast and fact of each configuration of a stage, in CPU seconds of a step."""
    trials = {}
    for name, given in configurations.items():
        shape, rows = shape_of(stage, given)
        trials[name] = Trial(shape, rows, 1, device=torch.device("cpu"), schedule=SCHEDULE, placement=Placement())
    work = {f"{name}/gradients": trial.gradients for name, trial in trials.items()}
    # Each update follows its own gradients, which it lets go of.
    order = {key: run for name in trials for key, run in ((f"{name}/gradients", work[f"{name}/gradients"]),
                                                         (f"{name}/update", trials[name].update))}  # fmt: skip
    took = {key: float(np.median(each)) for key, each in interleaved(order, rounds, dropped=1).items()}
    base = trials[CALIBRATED]
    rate = base.flops() / took[f"{CALIBRATED}/gradients"]
    update = took[f"{CALIBRATED}/update"] / base.trained
    found: dict[str, Any] = {}
    for name, trial in trials.items():
        fact = took[f"{name}/gradients"] + took[f"{name}/update"]
        forecast = trial.flops() / rate + trial.trained * update
        found[name] = {
            **configurations[name]._asdict(),
            "parameters": trial.parameters,
            "flops": trial.flops(),
            "seconds": fact,
            "forecast": forecast,
            "ratio": forecast / fact,
        }
    return found


def measure(
    stages: tuple[str, ...] = STAGES, configurations: dict[str, Configuration] = CONFIGURATIONS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Return every stage's."""
    found = {stage: measure_stage(stage, configurations, rounds) for stage in stages}
    return {**surroundings(("torch",)), "goal": GOAL, "stages": found}


def table(result: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [f"{'step forecast / fact':24} {'seconds':>8} {'forecast':>9} {'ratio':>6}"]
    for stage, rows in result["stages"].items():
        for name, told in rows.items():
            beyond = " beyond the goal" if abs(told["ratio"] - 1) > result["goal"] else ""
            numbers = f"{told['seconds']:8.3f} {told['forecast']:9.3f} {told['ratio']:6.2f}"
            lines.append(f"{stage + ', ' + name:24} {numbers}{beyond}")
    return "\n".join(lines)


def main(path: Path = RESULTS) -> None:
    """Measure, write the JSON, print the table."""
    result = measure()
    publish(result, table(result), path)


if __name__ == "__main__":
    main()
