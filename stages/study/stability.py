"""How calm a training was, from its history alone: spikes of the loss, the gradient's tail, and whether it failed.

The paper chose its encoder by stability too and publishes no number of it; these definitions are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from stages.training.guard import GuardPolicy

SETTLED = 5
"""Steps whose median is taken where one noisy step shall decide nothing."""
MARGIN = 0.05
"""Nats below guessing from which a training has learned something."""
USUAL = 128
"""Most steps that say how far a loss usually moves."""
LEAST = 32
"""Fewest of them."""
SIGMAS = 6.0
FLOOR = 0.02
"""Least deviation, in nats."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
WATCHING = GuardPolicy(skip_sigma=None, skips=10**9, high_steps=10**9)
"""All trainings of a study run under this: only a step that is not finite is not taken, so none hides its spikes."""

DEFINITIONS = (
    f"A spike begins where the loss lies more than {SIGMAS:g} robust deviations above what it usually is after the "
    f"{SETTLED} steps before: their median, and the median change against such a median over the up to {USUAL} steps "
    f"before. The deviation is {NORMAL:g} times the median absolute deviation of those changes, {FLOOR:g} at least; "
    f"fewer than {LEAST} steps tell nothing. Steps in a row are one spike; its size is the largest excess, in nats.",
    "The gradient's tail is the 99th percentile of its norm before clipping over the median, after the warm-up.",
    "Attention logits are the largest magnitude, over all blocks and heads, of query times key over the root of the "
    "head dimension, on the same pictures before and after training.",
    f"A training fails where a step is not finite; or where it learned nothing: the median of {SETTLED} losses never "
    f"came {MARGIN:g} nats below guessing, which is the logarithm of the pairs in a batch and the same for all "
    "variants (with a sigmoid loss, the first loss); or where it fell back: that median ends above half the way from "
    "its lowest to guessing.",
)

History = Sequence[Mapping[str, float]]
"""What a training measured step by step; what is not finite is absent."""


@dataclass(frozen=True)
class Failure:
    """Why a training failed, and from which step on, counted from 1."""

    reason: str
    step: int


@dataclass(frozen=True)
class Stability:
    """How calm one training was; see `DEFINITIONS`."""

    spikes: int
    largest_spike: float
    """In nats; 0 without spikes."""
    norm_tail: float
    failure: Failure | None
    end_loss: float | None
    """See `end_loss`."""


def losses(history: History) -> list[float]:
    """Return the loss of each step, NaN where it was not finite."""
    return [step.get("loss", math.nan) for step in history]


def end_loss(history: History) -> float | None:
    """Return the mean loss of the last tenth of the steps, a few at least; None where none of them is finite."""
    last = [loss for loss in losses(history)[-max(SETTLED, len(history) // 10) :] if math.isfinite(loss)]
    return fmean(last) if last else None


def spikes(history: History) -> list[tuple[int, float]]:
    """Return (first step, size) of each spike of the loss."""
    found: list[tuple[int, float]] = []
    finite: list[float] = []
    changes: list[float] = []
    last = -2
    for number, loss in enumerate(losses(history)):
        if not math.isfinite(loss):
            continue
        if len(finite) >= SETTLED:
            before = median(finite[-SETTLED:])
            if excess := _excess(loss - before, changes[-USUAL:]):
                first, size = found.pop() if last == number - 1 else (number + 1, 0.0)
                found.append((first, max(size, excess)))
                last = number
            changes.append(loss - before)
        finite.append(loss)
    return found


def _excess(change: float, usual: Sequence[float]) -> float:
    """Return how far a loss lies above the usual where that makes a spike, else 0."""
    if len(usual) < LEAST:
        return 0.0
    middle = median(usual)
    deviation = max(NORMAL * median(abs(each - middle) for each in usual), FLOOR)
    return change - middle if change - middle > SIGMAS * deviation else 0.0


def norm_tail(history: History, warmup_steps: int) -> float:
    """Return the gradient norm's 99th percentile over its median after the warm-up; 1 where nothing is finite."""
    norms = sorted(step["grad_norm"] for step in history[warmup_steps:] if "grad_norm" in step)
    if not norms or not (middle := median(norms)):
        return 1.0
    # Nearest rank: a value that occurred, also where there are fewer than 100.
    return norms[math.ceil(0.99 * len(norms)) - 1] / middle


def failed(history: History, guessing: float | None) -> Failure | None:
    """Return why a training failed; None where it did not.

    Args:
        history: What it measured.
        guessing: The loss of a model that tells no pairs apart; None for the loss of the first step.
    """
    found = losses(history)
    for number, loss in enumerate(found):
        if not math.isfinite(loss) or "skipped" in history[number]:
            return Failure("not finite", number + 1)
    top = found[0] if guessing is None else guessing
    running = [median(found[max(0, end - SETTLED) : end]) for end in range(min(SETTLED, len(found)), len(found) + 1)]
    lowest = min(running)
    if lowest > top - MARGIN:
        return Failure("learned nothing", len(found))
    half = (lowest + top) / 2
    if running[-1] <= half:
        return None
    low = max(place for place, value in enumerate(running) if value <= half)
    return Failure("fell back", low + SETTLED + 1)


def stability(history: History, warmup_steps: int, guessing: float | None) -> Stability:
    """Return how calm a training was; arguments as those of `norm_tail` and `failed`."""
    found = spikes(history)
    return Stability(
        spikes=len(found),
        largest_spike=max((size for _, size in found), default=0.0),
        norm_tail=norm_tail(history, warmup_steps),
        failure=failed(history, guessing),
        end_loss=end_loss(history),
    )
