"""Thresholds that a rule may be moved to, and how many of them each row still passes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from filters.base import Columns, Filter, Measure

MOST_STOPS = 15
"""So that "how many stops a row passes" is one hexadecimal digit."""

Digits = npt.NDArray[np.uint8]


def movable(filters: Sequence[Filter]) -> list[Filter]:
    """Return the rules with stops, by reason."""
    return sorted((each for each in filters if each.threshold and each.stops), key=lambda each: each.reason)


def current_of(rule: Filter) -> float:
    """Return a rule's threshold."""
    return float(getattr(rule, rule.threshold))


def stops_of(rule: Filter) -> tuple[float, ...]:
    """Return a rule's stops, loosest first, its current threshold among them.

    Where there are too many, the declared ones that lie farthest from the current one go.
    """
    current = current_of(rule)
    stops = sorted({float(stop) for stop in rule.stops} | {current}, reverse=not _rises(rule))
    while len(stops) > MOST_STOPS:
        stops.pop(0 if stops.index(current) > len(stops) // 2 else -1)
    return tuple(stops)


def moved(rule: Filter, threshold: float) -> Filter:
    """Return a rule with another threshold; a whole number stays one."""
    whole = type(rule).model_fields[rule.threshold].annotation is int
    return rule.model_copy(update={rule.threshold: int(threshold) if whole else float(threshold)})


def passed(rule: Filter, stops: Sequence[float], columns: Columns) -> Digits:
    """Return how many stops each row passes, shape (samples,).

    Rows that pass the strictest stop pass all, and rows that fail the loosest fail all, whatever the reason:
    a signal that was not computed, or a part of the rule that has no threshold. Only between them does the
    measure decide.
    """

    def kept(stop: float) -> npt.NDArray[np.bool_]:
        return moved(rule, stop).keep(columns)

    measure = rule.measure(columns)
    if measure is None:
        return np.asarray(np.sum([kept(stop) for stop in stops], axis=0), dtype=np.uint8)
    strictest, loosest = kept(stops[-1]), kept(stops[0])
    found = np.where(strictest, np.uint8(len(stops)), np.uint8(0))
    between = np.flatnonzero(loosest & ~strictest)
    found[between] = _reached(rule, stops, np.asarray(measure, dtype=np.float32)[between])
    return found


def _rises(rule: Filter) -> bool:
    """Return whether larger thresholds are stricter."""
    return rule.stops[-1] > rule.stops[0]


def _reached(rule: Filter, stops: Sequence[float], measure: Measure) -> npt.NDArray[np.intp]:
    sign = 1 if _rises(rule) else -1
    edges = sign * np.asarray(stops, dtype=np.float32)
    return np.searchsorted(edges, sign * measure, side="right" if rule.on_threshold_is_kept else "left")
