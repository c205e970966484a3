"""The paper's Table 2 beside ours: what its rounded digits allow, how far we are, and whether that is on target.

The light step is held against a bound and the strict one against a point: the paper's first loss
includes failed downloads, so of what was fetched it kept at least what it kept of what was listed.
Link rot must never make somebody loosen a threshold.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from filters.funnel import PAPER
from stages.report.rows import SourceRows
from stages.report.statistics import wilson

BAND = 0.07
"""Ours: how far a strict source may lie from the paper's share, relative to it."""

# The digits as Table 2 prints them, where they differ from millions (arXiv:2312.14238, Table 2).
PRINTED: dict[str, tuple[str, str, str]] = {
    "laion_en": ("2.32e9", "1.94e9", "91e6"),
    "laion_coco": ("663e6", "550e6", "550e6"),
    "coyo": ("747e6", "535e6", "200e6"),
    "cc12m": ("12.4e6", "11.1e6", "11.1e6"),
    "cc3m": ("3.0e6", "2.6e6", "2.6e6"),
    "sbu": ("1.0e6", "1.0e6", "1.0e6"),
    "wukong": ("100e6", "69.4e6", "69.4e6"),
    "laion_multi": ("2.26e9", "1.87e9", "100e6"),
}


class State(StrEnum):
    """How a target stands."""

    OK = "on target"
    OFF = "off target"
    UNSURE = "cannot say"


@dataclass(frozen=True)
class Target:
    """One comparison: our share of a named denominator, the paper's, and its verdict."""

    source: str
    what: str
    ours: float
    interval: tuple[float, float] | None
    """95 % where rows are a sample of the source; None for all of them."""
    paper: float
    rounding: tuple[float, float]
    distance: float | None
    """Ours / paper - 1; None for a bound."""
    state: State


def _rounding(text: str) -> tuple[float, float]:
    """Return the least and the greatest number that is printed so."""
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    half = Decimal(5) * Decimal(10) ** (int(exponent) - 1)
    return float(value - half), float(value + half)


def rounding(source: str, part: int, whole: int) -> tuple[float, float]:
    """Return the least and the greatest share that two rounded numbers of Table 2 allow, at most 1."""
    (low, high), (least, most) = (_rounding(PRINTED[source][column]) for column in (part, whole))
    return low / most, min(high / least, 1.0)


def is_pilot(rows: SourceRows) -> bool:
    """Return whether rows are a sample: fewer than half of what the paper listed."""
    return rows.source in PAPER and rows.listed < 0.5e6 * PAPER[rows.source][0]


def target(rows: SourceRows, band: float = BAND) -> Target | None:
    """Return how a source stands against the paper; None where it has no such source, or nothing was judged."""
    if rows.source not in PAPER:
        return None
    paper = PAPER[rows.source]
    if rows.policy.name == "clean":
        return _bound(rows, paper[1] / paper[0]) if rows.decodable else None
    if not rows.clean:
        return None
    theirs, ours = paper[2] / paper[1], rows.funnel.kept / rows.clean
    distance = ours / theirs - 1
    if not rows.strict:
        state = State.OK if rows.funnel.kept == rows.clean else State.OFF
        return Target(rows.source, "of clean", ours, None, theirs, (1.0, 1.0), distance, state)
    interval = wilson(rows.funnel.kept, rows.clean) if is_pilot(rows) else None
    low, high = interval or (ours, ours)
    state = _in_band(low, high, theirs * (1 - band), theirs * (1 + band))
    return Target(rows.source, "of clean", ours, interval, theirs, rounding(rows.source, 2, 1), distance, state)


def _bound(rows: SourceRows, printed: float) -> Target:
    allowed = rounding(rows.source, 1, 0)
    ours = rows.clean / rows.decodable
    interval = wilson(rows.clean, rows.decodable) if is_pilot(rows) else None
    low, high = interval or (ours, ours)
    # The least that the paper's digits allow: a source is not to be blamed for its rounding.
    state = State.OK if low >= allowed[0] else State.OFF if high < allowed[0] else State.UNSURE
    return Target(rows.source, "of decodable", ours, interval, printed, allowed, None, state)


def _in_band(low: float, high: float, least: float, most: float) -> State:
    if least <= low and high <= most:
        return State.OK
    return State.OFF if high < least or low > most else State.UNSURE
