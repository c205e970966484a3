"""The page of the simulator's curves: one file, no script, no address outside of it."""

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.filter_report import TEMPLATES
from stages.report import svg

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 520.0, 260.0, 52.0, 40.0, 12.0
Point = tuple[float, float, float, float]


class Curve(Protocol):
    """A line of medians with the 5th and 95th percentile around it."""

    @property
    def title(self) -> str:
        """What is shown."""
        ...

    @property
    def across(self) -> str:
        """What the places are."""
        ...

    @property
    def up(self) -> str:
        """The unit of the values."""
        ...

    @property
    def points(self) -> tuple[Point, ...]:
        """Place, 5th percentile, median, 95th percentile."""
        ...

    @property
    def mark(self) -> float | None:
        """A place with a line of its own."""
        ...

    @property
    def marked(self) -> str:
        """What that place is."""
        ...

    @property
    def formula(self) -> tuple[tuple[float, float], ...]:
        """Place and value by a formula."""
        ...


class Run(Protocol):
    """One line of the table."""

    @property
    def name(self) -> str:
        """What was run."""
        ...

    @property
    def where(self) -> str:
        """On what."""
        ...

    def cells(self) -> list[str]:
        """Return its numbers."""
        ...


class Simulated(Protocol):
    """What the page shows."""

    @property
    def runs(self) -> Sequence[Run]:
        """The table."""
        ...

    @property
    def curves(self) -> Sequence[Curve]:
        """The drawings."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was reckoned with."""
        ...


def render(found: Simulated) -> str:
    """Return the page; the same findings give the same bytes."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "simulation.css"))
    return environment.get_template("simulation.html.j2").render(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        runs=found.runs,
        curves=[(each, drawn(each)) for each in found.curves],
        notes=found.notes,
    )


def drawn(curve: Curve) -> Markup:
    """Return a curve: places on a logarithmic scale, values from nought."""
    places = [math.log(point[0]) for point in curve.points]
    first, last = min(places), max(places)
    most = max([point[3] for point in curve.points] + [value for _, value in curve.formula]) * 1.05
    # One value far above the others would flatten them all: the scale ends at four times the least.
    most = min(most, 4 * min(point[2] for point in curve.points)) if curve.formula else most

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * (math.log(place) - first) / max(last - first, 1e-9)

    def y(value: float) -> float:
        return TOP + (HEIGHT - BOTTOM - TOP) * (1 - min(value, most) / most)

    floor = HEIGHT - BOTTOM
    parts = [svg.line(LEFT, floor, WIDTH - 8, floor, "axis"), *_ticks(most, y), *_labels(curve, x, floor)]
    band = [*((x(p[0]), y(p[3])) for p in curve.points), *((x(p[0]), y(p[1])) for p in reversed(curve.points))]
    parts.append(svg.path(_way(band) + "Z", "spread"))
    if curve.formula:
        parts.append(svg.path(_way([(x(place), y(value)) for place, value in curve.formula]), "formula"))
    parts.append(svg.path(_way([(x(point[0]), y(point[2])) for point in curve.points]), "median"))
    if curve.mark is not None and first <= math.log(curve.mark) <= last:
        parts.append(svg.line(x(curve.mark), TOP, x(curve.mark), floor, "threshold"))
        parts.append(svg.text(x(curve.mark) + 4, TOP + 10, curve.marked, "note"))
    return svg.drawing(WIDTH, HEIGHT, f"{curve.title}: {curve.up} by {curve.across}", parts, "curve")


def _way(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ticks(most: float, y: Callable[[float], float]) -> list[Markup]:
    """Return four values and a faint line for each."""
    step = 10 ** math.floor(math.log10(most / 4))
    step *= next(each for each in (1, 2, 5, 10) if most / (step * each) <= 5)
    found = []
    for number in range(int(most / step) + 1):
        found.append(svg.line(LEFT, y(number * step), WIDTH - 8, y(number * step), "grid"))
        found.append(svg.text(LEFT - 6, y(number * step) + 4, f"{number * step:g}", "tick end"))
    return found


def _labels(curve: Curve, x: Callable[[float], float], floor: float) -> list[Markup]:
    found = [svg.text(x(point[0]), floor + 15, _short(point[0]), "tick middle") for point in curve.points]
    return [*found, svg.text((LEFT + WIDTH) / 2, HEIGHT - 6, curve.across, "tick middle")]


def _short(value: float) -> str:
    return (
        f"{value / 1000:.3g}k"
        if value >= 1000
        else f"{value:.0f}"
        if value >= 10
        else f"{value:.1f}".removesuffix(".0")
    )
