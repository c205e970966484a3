"""Small charts as SVG: geometry in attributes, colour in classes, so that a strict policy allows them.

Every text goes through `escape`; nothing here takes markup from elsewhere.
"""

from collections.abc import Sequence
from math import ceil

from markupsafe import Markup, escape

from filters.funnel import Histogram

_EMPTY = Markup("")


def rect(x: float, y: float, width: float, height: float, kind: str, radius: float = 0) -> Markup:
    """Return a rectangle."""
    round_ = f' rx="{radius:g}"' if radius else ""
    return Markup(
        f'<rect class="{escape(kind)}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
        f'height="{max(height, 0):.1f}"{round_}/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line."""
    return Markup(f'<line class="{escape(kind)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def text(x: float, y: float, words: str, kind: str = "") -> Markup:
    """Return a text."""
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, f"{x:.1f}", f"{y:.1f}", words)


def path(d: str, kind: str) -> Markup:
    """Return a path; `d` holds numbers and letters that we wrote."""
    return Markup('<path class="{}" d="{}"/>').format(kind, d)


def diamond(x: float, y: float, size: float = 5) -> Markup:
    """Return the paper's mark."""
    return path(f"M{x:.1f} {y - size:.1f}l{size:g} {size:g}l-{size:g} {size:g}l-{size:g} -{size:g}z", "paper-mark")


def drawing(
    width: float, height: float, label: str, parts: Sequence[Markup], kind: str = "", stretch: bool = False
) -> Markup:
    """Return a drawing with the one sentence that says what it shows."""
    ratio = Markup(' preserveAspectRatio="none"') if stretch else _EMPTY
    return Markup('<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}"{}>{}</svg>').format(
        kind, label, f"{width:g}", f"{height:g}", ratio, _EMPTY.join(parts)
    )


def histogram(
    found: Histogram, threshold: float | None, at_least: bool, unit: str, whole: bool = False, kept: bool = True
) -> Markup:
    """Return all rows by signal, heights by square root; kept side in teal, threshold as a line.

    Args:
        found: Rows by signal.
        threshold: Where the rule is; None for a rule without one.
        at_least: Whether more is kept.
        unit: Of the signal.
        whole: Whether the signal is a whole number: then a bin is kept where one in it is, not where its middle is.
        kept: Whether a signal on the threshold is kept.
    """
    width, height = 120.0, 30.0
    most = max(max(found.all), 1) ** 0.5
    step = width / len(found.all)
    wide = (found.high - found.low) / len(found.all)
    parts = []
    for number, count in enumerate(found.all):
        stands = found.low + (number + 0.5) * wide
        if whole:
            stands = ceil(stands + wide / 2) - 1 if at_least else ceil(stands - wide / 2)
        good = threshold is None or (stands >= threshold if at_least else stands <= threshold)
        good &= kept or stands != threshold
        if count:
            tall = max((height - 2) * count**0.5 / most, 1.0)
            parts.append(rect(number * step, height - tall, step - 0.5, tall, "kept" if good else "lost"))
    if threshold is not None:
        share = (threshold - found.low) / (found.high - found.low)
        x = min(max(share, 0.0), 1.0) * width
        parts.append(line(x, 0, x, height, "threshold"))
    label = f"rows by signal from {found.low:g} to {found.high:g} {unit}, square-root heights"
    if threshold is not None:
        label += f"; threshold {threshold:g}"
    return drawing(width, height, label, parts, "histogram")


def step_bar(kept: float, before: float, paper: float | None, label: str) -> Markup:
    """Return one step of the ladder: what is kept, pale what was lost here, and the paper's mark; of listed."""
    width = 260.0
    parts = [
        rect(0, 4, width * before, 12, "lost", 2),
        rect(0, 4, width * kept, 12, "kept", 2),
    ]
    if paper is not None:
        parts.append(diamond(min(width * paper, width), 10))
    return drawing(width + 8, 20, label, parts, "step")


def alone_bar(total: float, alone: float, label: str) -> Markup:
    """Return a rule's share: alone in full colour, shared pale."""
    width = 130.0
    return drawing(
        width, 10, label, [rect(0, 0, width * total, 10, "lost"), rect(0, 0, width * alone, 10, "drop")], "alone"
    )


def distance_dot(
    distance: float,
    interval: tuple[float, float] | None,
    rounding: tuple[float, float],
    band: float,
    good: str,
    label: str,
) -> Markup:
    """Return how far a share lies from the paper's, relative to it, on a scale from -20 to +20 %."""
    width, height, reach = 260.0, 24.0, 0.2

    def x(value: float) -> float:
        return 6 + (width - 12) * (min(max(value, -reach), reach) + reach) / (2 * reach)

    middle = height / 2
    parts = [
        line(0, middle, width, middle, "axis"),
        rect(x(-band), 4, x(band) - x(-band), height - 8, "band", 3),
        line(x(0), 2, x(0), height - 2, "threshold"),
        rect(x(rounding[0]), middle - 2.5, max(x(rounding[1]) - x(rounding[0]), 1.5), 5, "ink"),
    ]
    if interval is not None:
        parts.append(line(x(interval[0]), middle, x(interval[1]), middle, f"whisker {good}"))
    parts.append(Markup(f'<circle class="{escape(good)}" cx="{x(distance):.1f}" cy="{middle:.1f}" r="5"/>'))
    return drawing(width, height, label, parts, "distance")


def share_whisker(found: float, low: float, high: float, scale: float, whole: float, label: str) -> Markup:
    """Return a share with its interval, and the source's as a dashed line."""
    width, height = 112.0, 16.0

    def x(value: float) -> float:
        return width * min(value / scale, 1.0)

    return drawing(
        width,
        height,
        label,
        [
            line(x(whole), 0, x(whole), height, "whole"),
            line(x(low), 8, x(high), 8, "whisker teal"),
            Markup(f'<circle class="teal" cx="{x(found):.1f}" cy="8" r="3.5"/>'),
        ],
        "whiskers",
    )


def stacked(shares: Sequence[tuple[str, float]], height: float, label: str, kind: str = "stacked") -> Markup:
    """Return one bar of several states, shares of listed."""
    width, at = 300.0, 0.0
    parts = []
    for state, share in shares:
        parts.append(rect(at, 0, width * share - (0.7 if share > 0.01 else 0), height, state))
        at += width * share
    return drawing(width, height, label, parts, kind, stretch=True)


def dumbbell(before: float, now: float, paper: float | None, scale: float, label: str) -> Markup:
    """Return a share before and now, with the paper's mark."""
    width = 180.0

    def x(value: float) -> float:
        return 5 + (width - 10) * min(value / scale, 1.0)

    parts = [line(0, 8, width, 8, "axis"), line(x(before), 8, x(now), 8, "whisker teal")]
    if paper is not None:
        parts.append(diamond(x(paper), 8))
    parts.append(Markup(f'<circle class="pale" cx="{x(before):.1f}" cy="8" r="3.5"/>'))
    parts.append(Markup(f'<circle class="teal" cx="{x(now):.1f}" cy="8" r="4"/>'))
    return drawing(width, 16, label, parts, "dumbbell")
