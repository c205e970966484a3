"""One measured row in detail: all its numbers, its classes, what it takes for what, and pictures to look at."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from stages.evaluation_metrics import Measure
from stages.evaluation_report import above_guessing
from stages.evaluations.results import Result, Shown, Written
from stages.evaluations.wording import interval, said
from stages.report.text import drawn, visible

Counts = npt.NDArray[np.int64]
LONGEST = 600
"""Characters of an answer or a note that are shown."""
TOP = 20
"""Confusions that are listed."""
HEATED = 50
"""Most classes whose confusions are drawn."""
LABELLED = 25
"""Most classes whose names stand beside the drawing."""
NOTHING = Written()
_NAME = 130.0
_LABEL = Markup('<text class="end" x="{}" y="{}">{}</text>')
_HEAT = Markup(
    '<svg class="heatmap" role="img" aria-label="{0}" width="{1}" height="{2}" viewBox="0 0 {1} {2}">{3}</svg>'
)
_SQUARE = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"><title>{}</title></rect>')


@dataclass(frozen=True)
class Measured:
    """A row as it was read from the store."""

    result: Result
    place: str
    settings: dict[str, Any]
    confusion: Counts | None = None
    shown: Sequence[Shown] = ()
    written: Written = NOTHING


def detail(row: Measured) -> dict[str, Any]:
    """Return what the template shows of a row."""
    result = row.result
    return {
        "id": result.name,
        "title": result.title,
        "language": result.language,
        "measures": [_cells(each) for each in result.measures],
        "classes": class_lines(result.classes, row.confusion),
        "confusions": confusions(result.classes, row.confusion),
        "heat": heat(result.classes, row.confusion),
        "galleries": _galleries(row.shown),
        "written": _written(row.written),
        "written_in": (row.written.file, row.written.lines),
        "notes": result.notes,
        "departures": "; ".join(result.departures),
        "examples": result.examples,
        "unreadable": sorted(result.unreadable.items()),
        "place": row.place,
        "facts": _facts({**row.settings, **result.facts}),
    }


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what a reader wants to know of how it was measured; whole settings and tables are told elsewhere."""

    def elsewhere(value: Any) -> bool:
        return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))

    empty: tuple[Any, ...] = ("", [], None)
    return {name: _plain(value) for name, value in told.items() if value not in empty and not elsewhere(value)}


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:299]}…"


def _cells(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name.replace("_", " "),
        "language": measure.language,
        "value": said(measure.value, measure.unit),
        "interval": interval(measure),
        "chance": said(measure.chance, measure.unit),
        "blind": said(measure.blind, measure.unit),
        "above": above_guessing(measure),
        "n": measure.n,
    }


def class_lines(classes: Sequence[str], counts: Counts | None) -> list[dict[str, Any]]:
    """Return for each class its examples, how many were named right, and what it is taken for most; worst first."""
    if counts is None:
        return []
    found: list[tuple[float, str, int, str]] = []
    for number, name in enumerate(classes):
        total, right = int(counts[number].sum()), int(counts[number, number])
        if not total:
            continue
        wrong = counts[number].copy()
        wrong[number] = 0
        most = int(wrong.argmax())
        found.append((right / total, name, total, f"{classes[most]} ({wrong[most]:,})" if wrong[most] else ""))
    return [
        {"name": name, "n": total, "recall": said(share), "taken": taken}
        for share, name, total, taken in sorted(found)
    ]


def confusions(classes: Sequence[str], counts: Counts | None) -> list[dict[str, Any]]:
    """Return the commonest mistakes: what was right, what was said, how often, and of how many."""
    if counts is None:
        return []
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:TOP]
    pairs = [divmod(int(place), len(classes)) for place in places]
    return [
        {"right": classes[a], "said": classes[b], "n": int(wrong[a, b]), "of": said(wrong[a, b] / counts[a].sum())}
        for a, b in pairs
        if wrong[a, b]
    ]


def heat(classes: Sequence[str], counts: Counts | None) -> Markup | None:
    """Return a drawing of what was taken for what: a row per class, darker the larger its share of the row."""
    if counts is None or not 2 <= len(classes) <= HEATED:
        return None
    side = len(classes)
    left, cell = (_NAME, 18.0) if side <= LABELLED else (0.0, 12.0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = []
    for a, b in zip(*np.nonzero(counts), strict=True):
        share = float(shares[a, b])
        words = visible(f"{classes[a]} taken for {classes[b]}: {counts[a, b]:,} ({said(share)})")
        at = (left + b * cell, a * cell, cell - 1, cell - 1, 0.12 + 0.88 * share)
        parts.append(_SQUARE.format("right" if a == b else "wrong", *(f"{each:.4g}" for each in at), words))
    for number, name in enumerate(classes if left else ()):
        words = visible(name if len(name) <= 20 else f"{name[:19]}…")
        parts.append(_LABEL.format(f"{left - 6:g}", f"{number * cell + cell - 5:g}", words))
    label = f"Right class by row, answer by column, {side} classes in the order of their labels"
    return _HEAT.format(label, f"{left + side * cell:g}", f"{side * cell:g}", Markup("").join(parts))


def _written(written: Written) -> list[list[tuple[str, str]]]:
    """Return what was written, each with all that is told of it; of several right answers each once."""

    def told(value: Any) -> str:
        return drawn(" | ".join(dict.fromkeys(value)) if isinstance(value, list) else value or "", LONGEST)

    return [[(name, told(value)) for name, value in row.items() if value] for row in written.first]


def _galleries(shown: Sequence[Shown]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in shown:
        groups.setdefault(each.group, []).append(
            {
                "src": "data:image/jpeg;base64," + base64.b64encode(each.jpg).decode(),
                "lines": [(name, drawn(text, LONGEST)) for name, text in each.lines],
                "mark": {None: "", True: "right", False: "wrong"}[each.right],
            }
        )
    return list(groups.items())
