"""How calm a training was, from its history alone: spikes of the loss, the gradient's tail, divergence.

The paper chose its encoder by stability too and publishes no number of it; these definitions are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from stages.training.guard import Guard, GuardPolicy

SETTLED = 5
"""Steps whose median is held against the start: one noisy step is no divergence."""
MARGIN = 0.1
"""Nats that the median must lie above the start, whose batch has noise of its own."""
WATCHING = GuardPolicy(skip_sigma=None, skips=10**9, high_steps=10**9)
"""All trainings of a study run under this: only a step that is not finite is not taken, so none hides its spikes."""

DEFINITIONS = (
    "A spike is a step whose loss lies more than 6 robust deviations (1.4826 times the median absolute deviation, "
    "0.02 at least) above the median of the up to 128 steps before it, fewer than 32 telling nothing: where the "
    "training guard would skip it. Its size is loss minus median, in nats.",
    "The gradient's tail is the 99th percentile of its norm before clipping over the median, after the warm-up.",
    "Attention logits are the largest magnitude, over all blocks and heads, of query times key over the root of the "
    "head dimension, on the same pictures before and after training.",
    f"A training diverges at the first step whose loss is not finite, or from which the median of {SETTLED} losses "
    f"lies {MARGIN:g} nats above the loss of the first step.",
)

History = Sequence[Mapping[str, float]]
"""What a training measured step by step; what is not finite is absent."""


@dataclass(frozen=True)
class Stability:
    """How calm one training was; see `DEFINITIONS`."""

    spikes: int
    largest_spike: float
    """In nats; 0 without spikes."""
    not_finite: int
    """Steps whose loss or gradient was not finite."""
    norm_tail: float
    diverged_at: int | None
    """Step, counted from 1."""


def losses(history: History) -> list[float]:
    """Return the loss of each step, NaN where it was not finite."""
    return [step.get("loss", math.nan) for step in history]


def spikes(history: History) -> list[tuple[int, float]]:
    """Return (step, size) of each spike of the loss."""
    policy = GuardPolicy()
    assert policy.skip_sigma is not None
    guard, found = Guard(policy), []
    for number, step in enumerate(history):
        loss, usual = step.get("loss", math.nan), guard.usual_loss()
        if usual is not None and loss > usual[0] + policy.skip_sigma * usual[1]:
            found.append((number + 1, loss - usual[0]))
        guard.look(number, loss, step.get("grad_norm", math.nan))
    return found


def norm_tail(history: History, warmup_steps: int) -> float:
    """Return the gradient norm's 99th percentile over its median after the warm-up; 1 where nothing is finite."""
    norms = sorted(step["grad_norm"] for step in history[warmup_steps:] if "grad_norm" in step)
    if not norms or not (middle := median(norms)):
        return 1.0
    # Nearest rank: a value that occurred, also where there are fewer than 100.
    return norms[math.ceil(0.99 * len(norms)) - 1] / middle


def diverged_at(history: History) -> int | None:
    """Return the first step at which a training diverges, counted from 1; None where it does not."""
    found = losses(history)
    for number, loss in enumerate(found):
        if not math.isfinite(loss) or "skipped" in history[number]:
            return number + 1
        following = found[number : number + SETTLED]
        # The end of the series is too short to be judged by its median.
        if number and len(following) == SETTLED and median(following) > found[0] + MARGIN:
            return number + 1
    return None


def stability(history: History, warmup_steps: int) -> Stability:
    """Return how calm a training was."""
    found = spikes(history)
    return Stability(
        spikes=len(found),
        largest_spike=max((size for _, size in found), default=0.0),
        not_finite=sum("loss" not in step or "skipped" in step for step in history),
        norm_tail=norm_tail(history, warmup_steps),
        diverged_at=diverged_at(history),
    )
