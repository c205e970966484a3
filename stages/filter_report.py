"""The page that a person reads before spending GPU hours: where rows went, and which rule took them."""

import base64
import hashlib
import html
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from filters.funnel import PAPER, Funnel, Histogram
from filters.policies import Policy
from stages.planted import Counts, fraction, pooled

TEMPLATES = Path(__file__).parent / "templates"
MAX_CAPTION = 200
BAR = 400
_NAMED = {0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO", 0x2066: "LRI", 0x2067: "RLI"}


@dataclass(frozen=True)
class Pictured:
    """One sample to look at; `jpg` is None where the picture must not be shown."""

    label: str
    caption: str
    jpg: bytes | None


def visible(caption: str) -> str:
    """Return a caption that cannot mislead a reader: cut, and with invisible characters named."""
    out, marks = [], 0
    for character in caption[:MAX_CAPTION]:
        category = unicodedata.category(character)
        marks = marks + 1 if category == "Mn" else 0
        if marks > 4:
            continue
        if category in ("Cc", "Cf", "Cs", "Co", "Cn"):
            out.append(f"[{_NAMED.get(ord(character), f'U+{ord(character):04X}')}]")
        else:
            out.append(character)
    return "".join(out) + ("…" if len(caption) > MAX_CAPTION else "")


def _histogram(histogram: Histogram, threshold: float | None) -> Markup:
    """Return a small SVG: bar heights by square root, what all other rules keep in full colour."""
    width, height = 220, 48
    most = max(max(histogram.all), 1) ** 0.5
    step = width / len(histogram.all)
    bars = []
    for number, (rows, others) in enumerate(zip(histogram.all, histogram.others_keep, strict=True)):
        for count, kind in ((rows, "all"), (others, "others")):
            tall = height * count**0.5 / most
            bars.append(
                f'<rect class="{kind}" x="{number * step:.1f}" y="{height - tall:.1f}" '
                f'width="{step - 0.6:.1f}" height="{tall:.1f}"/>'
            )
    line = ""
    if threshold is not None:
        share = (threshold - histogram.low) / (histogram.high - histogram.low)
        x = min(max(share, 0), 1) * width
        line = f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>'
    label = html.escape(f"histogram from {histogram.low:g} to {histogram.high:g}")
    return Markup(f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}">{"".join(bars)}{line}</svg>')


def share(part: float, whole: float) -> str:
    """Return a percentage with one decimal, or a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def ladder(source: str, policy: Policy, funnel: Funnel, listed: int, fetched: int) -> list[dict[str, Any]]:
    """Return the steps from listed to kept, each with the paper's share beside ours where it gives one."""
    paper = PAPER.get(source)
    named: list[tuple[str, int, int | None]] = [("listed", listed, 0), ("fetched", fetched, None)]
    if policy.name == "clean":
        named.append(("clean", funnel.kept, 1))
    else:
        named += [("clean", funnel.samples, 1), (policy.name, funnel.kept, 2)]
    steps, before = [], listed
    for name, rows, column in named:
        theirs = paper[column] / paper[0] if paper and column is not None else None
        steps.append(
            {
                "name": name,
                "rows": rows,
                "lost": before - rows,
                "of_listed": share(rows, listed),
                "of_before": share(rows, before),
                "paper": share(theirs, 1) if theirs is not None else "–",
                "width": round(BAR * rows / max(listed, 1), 1),
                "loss": round(BAR * before / max(listed, 1), 1),
                "mark": round(BAR * theirs, 1) if theirs is not None and name != "listed" else None,
            }
        )
        before = rows
    return steps


def headline(source: str, policy: Policy, funnel: Funnel, fetched: int) -> str:
    """Return one sentence that says how the step compares with the paper's.

    The light step is held against a bound and not a point: the paper's loss includes failed
    downloads, so of what was fetched it kept at least what it kept of what was listed.
    """
    paper = PAPER.get(source)
    if not policy.filters:
        return "The source passes this step whole, as in the paper."
    kept = funnel.kept / max(funnel.samples, 1)
    if paper is None:
        return f"The rules keep {share(kept, 1)} of the rows judged; the paper has no such source to compare with."
    if policy.name == "clean":
        least = paper[1] / paper[0]
        found = funnel.kept / max(fetched, 1)
        word = "as" if found >= least else "fewer than"
        bound = f"{share(least, 1)} or more"
        return f"clean keeps {share(found, 1)} of what was fetched, {word} the paper implies ({bound})."
    theirs = paper[2] / paper[1]
    return (
        f"{policy.name} keeps {share(kept, 1)} of clean rows; the paper keeps {share(theirs, 1)}: "
        f"{100 * (kept - theirs):+.1f} points."
    )


def rules(policy: Policy, funnel: Funnel) -> list[dict[str, Any]]:
    """Return one row per rule: what it hits in all, alone, and before the rules after it."""
    order = [rule.reason for rule in policy.filters]
    rows = []
    for rule in policy.filters:
        total, alone = funnel.total(rule.reason), funnel.alone(rule.reason)
        threshold = getattr(rule, rule.threshold) if rule.threshold else None
        histogram = funnel.histograms.get(rule.reason)
        rows.append(
            {
                "reason": rule.reason,
                "threshold": f"{threshold:g} {rule.unit}" if threshold is not None else "–",
                "total": total,
                "total_share": share(total, funnel.samples),
                "alone": alone,
                "first": funnel.first(rule.reason, order),
                "overlap": share(total - alone, total),
                "unknown": funnel.unknown.get(rule.reason, 0),
                "histogram": _histogram(histogram, threshold) if histogram else Markup(""),
                "does": " ".join((type(rule).__doc__ or "").strip().split("\n")[0].split()),
            }
        )
    return rows


def render(
    *,
    source: str,
    policy: Policy,
    funnel: Funnel,
    listed: int,
    fetched: int,
    outcomes: dict[str, int],
    pictured: list[Pictured],
    planted: dict[str, Counts] | None,
    provenance: dict[str, str],
    planted_outcomes: dict[str, Counts] | None = None,
) -> str:
    """Return one self-contained page without scripts; captions are hostile text and are escaped."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["fraction"] = fraction
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    groups: dict[str, list[dict[str, str]]] = {}
    for sample in sorted(pictured, key=lambda s: (s.label != "kept", s.label)):
        groups.setdefault(sample.label, []).append(
            {
                "caption": visible(sample.caption),
                "src": "data:image/jpeg;base64," + base64.b64encode(sample.jpg).decode() if sample.jpg else "",
            }
        )
    order = [rule.reason for rule in policy.filters if funnel.total(rule.reason)]
    matrix = [
        {"reason": one, "cells": [share(funnel.both(one, other), funnel.total(one)) for other in order]}
        for one in order
    ]
    return environment.get_template("filter_report.html.j2").render(
        source=source,
        policy=policy.name,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        bar=BAR,
        headline=headline(source, policy, funnel, fetched),
        steps=ladder(source, policy, funnel, listed, fetched),
        samples=funnel.samples,
        kept=funnel.kept,
        rejected=funnel.samples - funnel.kept,
        failed=listed - fetched,
        listed=listed,
        rules=rules(policy, funnel),
        order=order,
        matrix=matrix,
        commonest=funnel.commonest(),
        outcomes=[
            (name, rows, share(rows, listed), (planted_outcomes or {}).get(name))
            for name, rows in sorted(outcomes.items(), key=lambda item: (-item[1], item[0]))
        ],
        languages=[(name, rows, kept, share(kept, rows)) for name, (rows, kept) in funnel.languages.items()],
        groups=groups,
        planted=planted or {},
        pooled=pooled("", planted) if planted else None,
        pooled_outcomes=pooled("", planted_outcomes) if planted_outcomes else None,
        provenance=provenance,
    )


def summary(source: str, policy: Policy, funnel: Funnel, listed: int, fetched: int) -> str:
    """Return the same story as markdown for an artifact: numbers and closed-list words only."""
    lines = [f"### {source}: {policy.name}", "", "| step | rows | of listed | paper |", "| :-- | --: | --: | --: |"]
    lines[2:2] = [headline(source, policy, funnel, fetched), ""]
    for step in ladder(source, policy, funnel, listed, fetched):
        lines.append(f"| {step['name']} | {step['rows']:,} | {step['of_listed']} | {step['paper']} |")
    lines += ["", "| rule | threshold | total | alone | not scored |", "| :-- | :-- | --: | --: | --: |"]
    for rule in rules(policy, funnel):
        lines.append(
            f"| {rule['reason']} | {rule['threshold']} | {rule['total']:,} | {rule['alone']:,} "
            f"| {rule['unknown']:,} |"
        )
    return "\n".join(lines) + "\n"
