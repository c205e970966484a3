"""Looks at a step's loss and gradient before the weights move: take it, skip it, go back, or stop for a human.

It is given numbers that are already the same on all processes, so it decides the same on all of them, and
its own state is plain JSON, so a run that goes on from a saved state decides as one that never stopped.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stages.training.detours import Detour, position

NORMAL = 1.4826
"""The median absolute deviation times this is the standard deviation of normal noise."""


class GuardPolicy(BaseModel):
    """When a step is not taken and when a run goes back: part of a result's identity.

    The paper gives no such numbers. 6 deviations over 128 steps are the defaults of OLMo-core's `SkipStepOptimizer`
    (there with mean and standard deviation, which a spike inflates; here with median and median absolute deviation).
    The rest is our own choice: of 100,000 simulated healthy steps none is skipped, and none of our finished runs'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(default=128, ge=8, description="Taken steps that a new one is held against.")
    least_steps: int = Field(
        default=32, ge=4, description="With fewer taken steps only what is not finite is skipped; our choice."
    )
    skip_sigma: float | None = Field(
        default=6.0, gt=0, description="Skip above the median by so many robust deviations; never where null."
    )
    loss_floor: float = Field(
        default=0.02, gt=0, description="Least deviation of the loss: a curve without noise is no alarm; our choice."
    )
    norm_floor: float = Field(
        default=0.5,
        gt=0,
        description="The same of the gradient norm's logarithm: 6 of it are a factor 20. Healthy runs of ours had "
        "norms of 5.5 times the median, and clipping bounds what such a step does.",
    )
    skips: int = Field(default=3, ge=1, description="So many skipped steps ...")
    skips_within: int = Field(default=50, ge=1, description="... among so many send the run back.")
    high_sigma: float = Field(default=10.0, gt=0, description="A loss above the median by so many deviations ...")
    high_steps: int = Field(default=20, ge=1, description="... for so many steps in a row sends the run back.")


class Act(StrEnum):
    """What becomes of a step."""

    TAKE = "take"
    SKIP = "skip"
    ROLL_BACK = "roll back"
    STOP = "stop"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a step, and why."""

    act: Act
    reason: str = ""
    first: int = 0
    """When the trouble began: a state of no later step is good."""
    step: int = 0
    """The step that was judged."""


class Guard:
    """What the last steps looked like, and what was done about the bad ones."""

    def __init__(self, policy: GuardPolicy) -> None:
        """Start without a past."""
        self.policy = policy
        self.detours: tuple[Detour, ...] = ()
        self._losses: deque[float] = deque(maxlen=policy.window)
        self._norms: deque[float] = deque(maxlen=policy.window)
        self._skipped: list[int] = []
        self._high = 0

    def position(self, step: int) -> int:
        """Return which global batch a step trains on."""
        return position(self.detours, step)

    def usual_loss(self) -> tuple[float, float] | None:
        """Return level and robust deviation of the losses that the next is held against; None where too few were."""
        return self._spread(self._losses, self.policy.loss_floor)

    def look(self, step: int, loss: float, norm: float) -> Verdict:
        """Judge a step before its update.

        Args:
            step: Its number; each is judged once, in order.
            loss: Of the global batch.
            norm: Of its gradient, before clipping.
        """
        policy = self.policy
        finite = math.isfinite(loss) and math.isfinite(norm)
        spread = self.usual_loss()
        high = not finite or (spread is not None and loss > spread[0] + policy.high_sigma * spread[1])
        reason = self._reason(loss, norm)
        self._high = self._high + 1 if high else 0
        self._skipped = [each for each in self._skipped if each > step - policy.skips_within]
        if reason:
            self._skipped.append(step)
        elif not high:
            self._losses.append(loss)
            self._norms.append(math.log(max(norm, 1e-30)))
        if reason and len(self._skipped) >= policy.skips:
            steps = ", ".join(str(each + 1) for each in self._skipped)
            return self._back(step, self._skipped[0], f"{reason}; skipped were steps {steps}")
        if self._high >= policy.high_steps:
            why = f"loss {loss:.4g} stayed {policy.high_sigma:g} deviations above its median for {self._high} steps"
            return self._back(step, step - self._high + 1, why)
        return Verdict(Act.SKIP if reason else Act.TAKE, reason, step, step)

    def rolled_back(self, step: int, to: int) -> None:
        """Note that the run went back; steps from there on train on data that none has seen yet.

        Args:
            step: The step in trouble.
            to: Steps done in the state that was restored; the guard was restored with it, but for its detours.
        """
        detour = Detour(step, to, self.position(to), self.position(step))
        self.detours = (*self.detours, detour)
        self._skipped, self._high = [], 0

    def state(self) -> dict[str, Any]:
        """Return all that decides the next verdicts, as JSON."""
        return {
            "losses": list(self._losses),
            "norms": list(self._norms),
            "skipped": list(self._skipped),
            "high": self._high,
            "detours": [[each.step, each.at, each.first, each.last] for each in self.detours],
        }

    def restore(self, state: dict[str, Any], *, keep_detours: bool = False) -> None:
        """Take up a past that `state` returned.

        Args:
            state: The past.
            keep_detours: When going back: what was left out stays left out.
        """
        self._losses = deque(state["losses"], maxlen=self.policy.window)
        self._norms = deque(state["norms"], maxlen=self.policy.window)
        self._skipped, self._high = list(state["skipped"]), int(state["high"])
        if not keep_detours:
            self.detours = tuple(Detour(*each) for each in state["detours"])

    def _reason(self, loss: float, norm: float) -> str:
        """Return why a step is not to be taken, or nothing."""
        policy = self.policy
        for what, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"{what} is {value}"
        if policy.skip_sigma is None:
            return ""
        logarithm = math.log(max(norm, 1e-30))
        for what, told, value, past, floor in (
            ("loss", loss, loss, self._losses, policy.loss_floor),
            ("gradient norm", norm, logarithm, self._norms, policy.norm_floor),
        ):
            spread = self._spread(past, floor)
            if spread is not None and value > spread[0] + policy.skip_sigma * spread[1]:
                usual = spread[0] if what == "loss" else math.exp(spread[0])
                times = (value - spread[0]) / spread[1]
                return f"{what} {told:.4g} is {times:.3g} deviations above its median {usual:.4g}"
        return ""

    def _spread(self, past: deque[float], floor: float) -> tuple[float, float] | None:
        """Return level and robust deviation of the window, None where it is too short to judge by.

        The deviation is around a line through the window's halves: a loss that falls fast is not noise. The level
        is the median, or where the line rises its end: a slow rise is no spike.
        """
        if len(past) < self.policy.least_steps:
            return None
        middle = median(past)
        half = len(past) // 2
        slope = (median(islice(past, len(past) - half, None)) - median(islice(past, half))) / max(1, len(past) - half)
        away = [abs(value - middle - slope * (place - (len(past) - 1) / 2)) for place, value in enumerate(past)]
        level = middle + max(0.0, slope) * len(past) / 2
        return level, max(NORMAL * median(away), floor)

    def _back(self, step: int, first: int, why: str) -> Verdict:
        """Return the verdict on trouble that skipping does not end."""
        if self.detours and step <= self.detours[-1].step + self.policy.window:
            again = f"{why}; the run went back once already, from step {self.detours[-1].step + 1}"
            return Verdict(Act.STOP, again, first, step)
        return Verdict(Act.ROLL_BACK, why, first, step)
