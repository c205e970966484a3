"""Each real stage learns one batch by heart, starting from what the stages before it learned by heart."""

from pathlib import Path
from typing import Any, NamedTuple

from forked_runs import Forks
from real_stages import SAMPLES, ended

KEPT_ASIDE = {"held_out_share": 0.88, "held_out": SAMPLES}
"""One batch of the pictures is left, and by the share of the conversations one batch of those."""
OF_TALK = {**KEPT_ASIDE, "held_out_share": 0.854}
CALM = {
    "drop_path_rate": 0.0,
    "masked_image_size": None,
    "mask_ratio": 0.0,
    "unmasked_steps": 0,
    "smallest_crop": 1.0,
}
LANGUAGE, CONTRASTIVE = {"checkpoints/language": "by-heart"}, {"checkpoints/contrastive": "by-heart"}


class Lesson(NamedTuple):
    """What a stage is to learn by heart."""

    stage: str
    given: dict[str, Any]
    versions: dict[str, str]
    steps: int
    limits: dict[str, float]
    """Below what the last step's measures must lie."""
    learning_rate: float = 0.01

    def learn(self, forks: Forks, world: Path) -> None:
        """Train on one batch, and look at the last step."""
        schedule = {"steps": self.steps, "learning_rate": self.learning_rate, "weight_decay": 0.0, "final_ratio": 0.2}
        codes = forks.run(
            world, job="real_stages:train_stage", stage=self.stage, version="by-heart", versions=self.versions,
            given={**self.given, "schedule": schedule}, placed={"checkpoint_steps": 1000},
        )  # fmt: skip
        assert codes == [0], forks.said()
        history = ended(world, self.stage, "by-heart").history
        last = {name: history[-1][name] for name in self.limits}
        assert all(last[name] < limit for name, limit in self.limits.items()), (self.stage, last)
        assert all(history[0][name] > limit for name, limit in self.limits.items()), "it did not begin there"


LESSONS = [
    # Which of eight captions it is shows after some tokens only: log(8) nats over a caption's tokens are left.
    Lesson("language", {"documents": 0, **KEPT_ASIDE}, {"shards/clean": "t"}, 90, {"loss": 0.2}),
    Lesson("contrastive", {**CALM, **KEPT_ASIDE}, LANGUAGE, 50, {"loss": 0.05}),
    # Captions go through the frozen language model, matching meets other wrong pairs in each step: by heart they are
    # learned from fixed pairs in `tests/models/test_generative_objective.py`.
    Lesson("generative", KEPT_ASIDE, CONTRASTIVE, 60, {"itc": 0.05, "itg": 1.2}, learning_rate=0.02),
    Lesson("instruct", {"drop_path_rate": 0.0, **OF_TALK}, {**LANGUAGE, **CONTRASTIVE}, 75, {"loss": 0.05}),
]


def test_one_batch_is_learned_by_heart(forks: Forks, world: Path) -> None:
    for lesson in LESSONS:
        lesson.learn(forks, world)
