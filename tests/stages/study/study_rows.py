"""Rows of a study that nothing was trained for."""

import math
from collections.abc import Sequence

from models.variants import Variant, derive
from stages.study.summary import Row, Trial


def row(
    depth: int = 2,
    accuracies: Sequence[float] = (0.40, 0.41, 0.42),
    speed: float = 1000.0,
    diverged: Sequence[int | None] = (None, 9),
    steps: int = 200,
    spikes: int = 1,
    **changes: float,
) -> Row:
    """Return a variant's row; `diverged` says when each trial did."""
    variant: Variant = derive(depth, 4, 8, 3e5)
    curves = tuple(
        tuple(4.6 - 0.004 * step + 0.1 * math.sin(step + seed) for step in range(steps))
        for seed in range(len(accuracies))
    )
    timed = {
        "unsaturated": {"batch": 1, "value": speed / 4, "low": speed / 5, "high": speed / 3},
        "saturated": {"batch": 128, "value": speed, "low": 0.95 * speed, "high": 1.02 * speed},
    }
    cost = {
        "parameters": 320_000, "macs": 6_000_000, "training_bytes": 5_000_000, "activation_bytes": 150_000,
        "speed": timed, "device": "one CPU core",
    }  # fmt: skip
    given = {"norm_tail": 2.5, "logits_start": 3.0, "logits_end": 9.0, "largest_spike": 0.4, **changes}
    return Row(
        variant=variant,
        cost=cost,
        measured={"choose": tuple(accuracies), "retrieval": tuple(each / 4 for each in accuracies)},
        chances={"choose": 0.25, "retrieval": 0.01},
        spikes=spikes,
        largest_spike=given["largest_spike"],
        not_finite=int(given.get("not_finite", 0)),
        norm_tail=given["norm_tail"],
        logits_start=given["logits_start"],
        logits_end=given["logits_end"],
        diverged=int(given.get("plain_diverged", 0)),
        trials=tuple(Trial(factor, at, 4.1, 4.2) for factor, at in zip((4.0, 16.0), diverged, strict=False)),
        curves=curves,
    )
