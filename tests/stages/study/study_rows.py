"""Rows of a study that nothing was trained for."""

import math
from collections.abc import Sequence

from models.variants import Variant, derive
from stages.study.stability import Failure
from stages.study.summary import Row, Trial


def trial(factor: float, seeds: int, bad: int) -> Trial:
    """Return trainings at a raised rate of which the first ones failed."""
    failures = tuple(Failure("learned nothing", 48) if seed < bad else None for seed in range(seeds))
    return Trial(factor, failures, 4.1 if bad < seeds else None, 4.2 if bad < seeds else None)


def row(
    depth: int = 2,
    accuracies: Sequence[float] = (0.40, 0.41, 0.42),
    speed: float = 1000.0,
    failed: Sequence[int] = (0, 1),
    steps: int = 200,
    spikes: int = 1,
    **changes: float,
) -> Row:
    """Return a variant's row; `failed` says how many seeds did at each raised rate."""
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
        norm_tail=given["norm_tail"],
        logits_start=given["logits_start"],
        logits_end=given["logits_end"],
        failures=(None,) * len(accuracies),
        trials=tuple(trial(factor, len(accuracies), bad) for factor, bad in zip((4.0, 16.0), failed, strict=False)),
        curves=curves,
    )
