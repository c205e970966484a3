"""What was measured of a training while it went on: one point per state, a curve of them, the best of them."""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from stages.manifest import Manifest, ManifestError, Part
from stages.ref import Ref
from stages.training import curves

OF_TRAINING = "training."
"""Before what a training stage itself measures of a finished model on what it keeps aside."""
SHOWN = 4
_NO_MEASURES = ("judged", "leaked", "steps", "held_out")
_BESIDE = ("_chance", "_blind")


class Point(BaseModel):
    """One state that was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    number: int
    """How many saves the run had made when this state was saved, over all its restarts."""
    passed_over: int
    """States saved since the point before that were not measured."""
    checkpoint: Ref
    metrics: dict[str, float]

    @classmethod
    def of(cls, part: Part) -> "Point":
        """Read a point from the part that holds it."""
        return cls.model_validate(part.facts)


def metrics_of(checkpoint: Manifest, evaluations: Sequence[Manifest]) -> dict[str, float]:
    """Return all that was measured of a checkpoint, by the names that a user chooses the best by."""
    own = checkpoint.parts[0].facts.get("metrics", {})
    found = {f"{OF_TRAINING}{name}": value for name, value in own.items()}
    for each in evaluations:
        found |= each.totals
    return {name: float(value) for name, value in found.items() if _counts(name.removeprefix(OF_TRAINING), value)}


def _counts(name: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and name not in _NO_MEASURES and not name.endswith(_BESIDE)


def check_metric(metrics: dict[str, float], wanted: str | None, what: Ref) -> None:
    """Refuse a metric that was not measured.

    Raises:
        ManifestError: It is not among them; the message lists those that are.
    """
    if wanted is not None and wanted not in metrics:
        raise ManifestError(
            f"{what} has no metric {wanted!r} to choose the best by; measured are {', '.join(sorted(metrics))}. "
            "What was measured of it is kept: run again with --best one of these"
        )


def best_of(points: Sequence[Point], metric: str | None, is_best: Literal["higher", "lower"]) -> Point:
    """Return the best point by a metric, of equals the earliest; the latest where no metric is named."""
    if metric is None:
        return max(points, key=lambda point: point.step)
    sign = 1.0 if is_best == "lower" else -1.0
    return min(points, key=lambda point: (sign * point.metrics.get(metric, sign * math.inf), point.step))


def curve_key(training: Ref) -> str:
    """Return where the curve of a checkpoint lies: one JSON object a line, beside what else a training tells."""
    return training.key("training/evaluations.jsonl")


def curve_lines(points: Sequence[Point]) -> bytes:
    """Return the curve, the earliest step first."""
    return b"".join(point.model_dump_json().encode() + b"\n" for point in points)


def read_curve(store: Store, training: Ref) -> list[Point]:
    """Return what was measured of a checkpoint while it was trained; nothing where nobody did."""
    try:
        lines = store.read(curve_key(training)).splitlines()
    except FileNotFoundError:
        return []
    return [Point.model_validate(json.loads(line)) for line in lines]


def shown(points: Sequence[Point], metric: str | None) -> list[str]:
    """Return the few metrics that a small table has room for: the chosen one, then those of the evaluations."""
    names = list(dict.fromkeys(name for point in points for name in sorted(point.metrics)))
    names.sort(key=lambda name: (name != metric, name.startswith(OF_TRAINING)))
    return names[:SHOWN]


def table(points: Sequence[Point], best: Point, metric: str | None) -> str:
    """Return the curve as a table for the run's page."""
    names = shown(points, metric)
    lines = ["| step | " + " | ".join(each.replace("_", " ") for each in names) + " | |"]
    lines.append("| --: |" + " --: |" * len(names) + " :-- |")
    for point in points:
        cells = [f"{point.metrics[name]:.4g}" if name in point.metrics else "–" for name in names]
        mark = "best" if point is best and metric is not None else ""
        lines.append("| " + " | ".join([f"{point.step:,}", *cells, mark]) + " |")
    return "\n".join(lines)


def page(training: Ref, points: Sequence[Point], best: Point, metric: str | None) -> str:
    """Return all metrics over steps as one page, the chosen metric first."""
    names = sorted({name for point in points for name in point.metrics}, key=lambda name: name != metric)
    rows = [
        {"step": float(point.step), **{name: point.metrics[name] for name in names if name in point.metrics}}
        for point in points
    ]
    states = "1 state was measured" if len(points) == 1 else f"{len(points):,} states were measured"
    lead = f"{states}; the latest, of step {best.step:,}, is kept"
    if metric is not None:
        value = f": {best.metrics[metric]:.4g}" if metric in best.metrics else ""
        lead = f"{states}; the best by {metric} is that of step {best.step:,}{value}"
    return curves.page(f"{training}, measured while it was trained", rows, [], lead)
