"""Each real stage learns one batch by heart: what can be learned at all has a gradient that leads there."""

from pathlib import Path
from typing import Any

import pytest
from forked_runs import Forks
from real_stages import BATCH, SAMPLES, ended

KEPT_ASIDE = SAMPLES - BATCH
CALM = {
    "drop_path_rate": 0.0,
    "masked_image_size": None,
    "mask_ratio": 0.0,
    "unmasked_steps": 0,
    "smallest_crop": 1.0,
}
CASES: dict[str, tuple[dict[str, Any], int, dict[str, float]]] = {
    # Which of the eight texts it is shows after a few tokens only: log(8) nats over the tokens of a text are left.
    "language": ({"documents": BATCH}, 100, {"loss": 0.1}),
    "contrastive": ({**CALM, "held_out": KEPT_ASIDE}, 60, {"loss": 0.05}),
    "generative": ({"held_out": KEPT_ASIDE}, 120, {"itc": 0.05, "itm": 0.05, "itg": 0.05}),
    "instruct": ({"drop_path_rate": 0.0, "held_out": KEPT_ASIDE}, 100, {"loss": 0.05}),
}
"""Changed parameters, steps, and below what the last measures must lie."""


@pytest.mark.parametrize("stage", list(CASES))
def test_one_batch_is_learned_by_heart(forks: Forks, world: Path, stage: str) -> None:
    given, steps, limits = CASES[stage]
    schedule = {"steps": steps, "weight_decay": 0.0, "final_ratio": 0.2}
    codes = forks.run(
        world, job="train_stage", stage=stage, version="by-heart",
        given={**given, "schedule": schedule}, placed={"checkpoint_steps": 1000},
    )  # fmt: skip
    assert codes == [0], forks.said()
    history = ended(world, stage, "by-heart").history
    last = {name: history[-1][name] for name in limits}
    assert all(last[name] < limit for name, limit in limits.items()), last
    assert all(history[0][name] > 5 * limit for name, limit in limits.items()), "it did not begin there"
