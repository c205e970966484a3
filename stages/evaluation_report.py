"""The page and the table of an evaluation: each number beside chance, beside its blind twin, with its interval."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from stages.evaluation_metrics import Measure
from stages.filter_report import TEMPLATES, visible

SHOWN_SIDE = 192


@dataclass(frozen=True)
class Example:
    """One picture to look at, with (what it is, text) lines; `right` is None where nothing is right or wrong."""

    group: str
    picture: Image.Image
    lines: Sequence[tuple[str, str]]
    right: bool | None = None


@dataclass
class Findings:
    """What an evaluation has found so far; `judged` counts pictures, or a chat model's answers."""

    measures: list[Measure] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    judged: int = 0


def shown(value: float | None, unit: str) -> str:
    """Return a number as people read it, a dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3f}"


def above_guessing(measure: Measure) -> str:
    """Return whether the whole interval lies on the better side of chance and of the blind twin."""
    rivals = [rival for rival in (measure.chance, measure.blind) if rival is not None]
    if not rivals:
        return "–"
    better = measure.high < min(rivals) if measure.unit == "nats" else measure.low > max(rivals)
    return "yes" if better else "no"


def _cells(measure: Measure) -> dict[str, Any]:
    unit = measure.unit
    return {
        "split": measure.split,
        "language": measure.language,
        "name": measure.name.replace("_", " "),
        "value": shown(measure.value, unit) + ("" if unit == "%" else f" {unit}"),
        "interval": f"{shown(measure.low, unit)} to {shown(measure.high, unit)}",
        "chance": shown(measure.chance, unit),
        "blind": shown(measure.blind, unit),
        "above": above_guessing(measure),
        "n": measure.n,
    }


def markdown(measures: Sequence[Measure]) -> str:
    """Return all numbers as one table."""
    lines = [
        "| split | language | measure | value | 95 % interval | chance | blind | above both | n |",
        "| :-- | :-- | :-- | --: | :-- | --: | --: | :-- | --: |",
    ]
    order = ("split", "language", "name", "value", "interval", "chance", "blind", "above", "n")
    for measure in measures:
        cells = _cells(measure)
        lines.append("| " + " | ".join(str(cells[name]) for name in order) + " |")
    return "\n".join(lines)


def totals(measures: Sequence[Measure]) -> dict[str, float]:
    """Return the numbers flat: each value, and beside it what chance and the blind twin give."""
    found: dict[str, float] = {}
    for measure in measures:
        found[measure.key] = round(measure.value, 4)
        for name in ("chance", "blind"):
            value = getattr(measure, name)
            if value is not None:
                found[f"{measure.key}_{name}"] = round(value, 4)
    return found


def _source(picture: Image.Image) -> str:
    out = io.BytesIO()
    small = picture.convert("RGB")
    if max(small.size) > SHOWN_SIDE:
        small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    small.save(out, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def render(
    *,
    title: str,
    judged: str,
    measures: Sequence[Measure],
    examples: Sequence[Example],
    notes: Sequence[str],
    provenance: Mapping[str, str],
) -> str:
    """Return one self-contained page without scripts; what models and people wrote is escaped."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    tables: dict[str, list[dict[str, Any]]] = {}
    for measure in measures:
        tables.setdefault(measure.split, []).append(_cells(measure))
    groups: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        lines = [(name, visible(text)) for name, text in example.lines]
        mark = {None: "", True: "right", False: "wrong"}[example.right]
        groups.setdefault(example.group, []).append({"src": _source(example.picture), "lines": lines, "mark": mark})
    return environment.get_template("evaluation.html.j2").render(
        title=title,
        judged=judged,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        tables=tables,
        groups=groups,
        notes=notes,
        provenance=provenance,
    )
