"""The drawings of a study's page: accuracy against speed, and the loss of each variant."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from stages.report.svg import drawing, line, path, rect, text
from stages.study.intervals import Mean
from stages.study.summary import Row
from stages.study.verdict import Verdict

WIDTH, HEIGHT = 640.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 18.0, 16.0, 46.0
POINTS = 150
"""Most points of a curve; of a longer one, means of equal stretches."""
FREE = 13.0
"""From the middle of a number to the next mark or number, at least."""

Scale = Callable[[float], float]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    wide = (high - low) or 1.0
    return lambda value: start + (value - low) / wide * (end - start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers inside a range, at most `most` and one more."""
    step = 10 ** math.floor(math.log10((high - low) or 1.0))
    step = next(step * f for f in (0.1, 0.2, 0.5, 1, 2, 5, 10) if (high - low) / (step * f) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _ends(value: Mean) -> tuple[float, float]:
    return (
        value.value if value.low is None else value.low,
        value.value if value.high is None else value.high,
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def accuracy_by_speed(rows: Sequence[Row], verdict: Verdict) -> Markup:
    """Return each variant as a numbered square: the mean over seeds with its interval, by speed with its range.

    A band reaches from the most accurate as far down as noise does: what lies in it is not told apart from that.
    """
    chance = next(iter(verdict.chosen.chances.values()))
    low, high = _padded([end for each in rows for end in _ends(each.accuracy)] + [chance])
    low, high = max(low, 0.0), min(high, 1.0)  # an interval may reach beyond what accuracy can be
    speed = [each.cost["speed"]["saturated"] for each in rows]
    left, right = _padded([end for each in speed for end in (each["low"], each["high"])])
    x, y = _scale(left, right, LEFT, WIDTH - RIGHT), _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [*_band(verdict, y), *_axes(x, y, ticks(left, right), ticks(low, high))]
    parts.append(line(LEFT, y(chance), WIDTH - RIGHT, y(chance), "guess"))
    parts.append(text(LEFT + 4, y(chance) - 4, "guessing", "small"))
    marks = [(x(each.saturated), y(each.accuracy.value)) for each in rows]
    for each, mark, timed in zip(rows, marks, speed, strict=True):
        kind = "chosen" if each is verdict.chosen else "other"
        parts += _mark(each, mark, y, (x(timed["low"]), x(timed["high"])), kind)
    for number, (at, middle) in enumerate(places_of_numbers(marks), start=1):
        parts.append(text(at, middle + 4, str(number), "number middle"))
    label = "accuracy by pictures per second; " + "; ".join(
        f"{number} {each.variant.name} {100 * each.accuracy.value:.1f} % at {each.saturated:,.0f}"
        for number, each in enumerate(rows, start=1)
    )
    return drawing(WIDTH, HEIGHT, label, parts, "plot")


def _band(verdict: Verdict, y: Scale) -> list[Markup]:
    if verdict.compared.threshold is None:
        return []
    best = verdict.near[0].accuracy.value
    top, bottom = y(best), min(y(best - verdict.compared.threshold), HEIGHT - BOTTOM)
    words = text(WIDTH - RIGHT - 4, bottom - 4, "within noise of the most accurate", "small end")
    return [rect(LEFT, top, WIDTH - RIGHT - LEFT, bottom - top, "noise"), words]


def _mark(each: Row, mark: tuple[float, float], y: Scale, range_: tuple[float, float], kind: str) -> list[Markup]:
    at, middle = mark
    bottom, top = (min(max(end, 0.0), 1.0) for end in _ends(each.accuracy))
    return [
        line(at, y(bottom), at, y(top), f"error {kind}"),
        line(range_[0], middle, range_[1], middle, f"error {kind}"),
        path(f"M{at - 4:.1f} {middle - 4:.1f}h8v8h-8z", kind),
    ]


def places_of_numbers(marks: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the middle of each mark's number: at the first of its corners that is free of marks and numbers."""
    taken: list[tuple[float, float]] = []
    for own, (at, middle) in enumerate(marks):
        corners = [(at + across, middle + up) for up in (-10.0, 11.0) for across in (11.0, -11.0)]
        others = [*marks[:own], *marks[own + 1 :], *taken]
        room = [min((math.dist(corner, each) for each in others), default=math.inf) for corner in corners]
        free = next((number for number, each in enumerate(room) if each >= FREE), room.index(max(room)))
        taken.append(corners[free])
    return taken


def _axes(x: Scale, y: Scale, across: Sequence[float], up: Sequence[float]) -> list[Markup]:
    parts = [line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis")]
    for value in across:
        parts.append(text(x(value), HEIGHT - BOTTOM + 18, f"{value:,g}", "tick middle"))
    for value in up:
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 8, y(value) + 4, f"{100 * value:g} %", "tick end"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "pictures per second, saturated", "tick middle"))
    return parts


def thinned(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return (step, loss) of a curve, stretches of it as their mean; what is not finite is left out."""
    size = max(1, math.ceil(len(values) / POINTS))
    found = []
    for start in range(0, len(values), size):
        some = [value for value in values[start : start + size] if math.isfinite(value)]
        if some:
            found.append((start + (size + 1) / 2, sum(some) / len(some)))
    return found


def curves(row: Row, low: float, high: float, chosen: bool) -> Markup:
    """Return one variant's loss, a line for each seed, on a scale that all variants share."""
    width, height = 220.0, 110.0
    steps = max(len(curve) for curve in row.curves)
    x, y = _scale(1, max(2, steps), 30, width - 4), _scale(low, high, height - 16, 6)
    parts = [line(30, height - 16, width - 4, height - 16, "axis")]
    for value in ticks(low, high, 3):
        parts += [line(30, y(value), width - 4, y(value), "grid"), text(26, y(value) + 3, f"{value:g}", "small end")]
    parts += [text(30, height - 4, "1", "small"), text(width - 4, height - 4, f"{steps:,}", "small end")]
    for curve in row.curves:
        dots = [f"{x(step):.1f} {min(max(y(loss), 2.0), height):.1f}" for step, loss in thinned(curve)]
        if dots:
            parts.append(path("M" + "L".join(dots), "curve chosen" if chosen else "curve other"))
    return drawing(width, height, f"loss of {row.variant.name} over {steps:,} steps", parts, "loss")


def loss_range(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the scale of all curves."""
    values = [loss for each in rows for curve in each.curves for _, loss in thinned(curve)]
    return _padded(values) if values else (0.0, 1.0)
