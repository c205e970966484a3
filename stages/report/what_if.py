"""What the sliders need: the joint counts of all stops as numbers and rule names, and the one step that helps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filters.base import Filter
from filters.cube import Cube
from filters.funnel import PAPER
from stages.report.applying import Applying
from stages.report.paper import BAND
from stages.report.rows import SourceRows
from stages.report.rules import at_least, sign
from stages.report.text import number

MOST_CELLS = 36_000
"""Cells in one page; a source that would pass it is tuned on its own page."""


@dataclass(frozen=True)
class Step:
    """One threshold moved by itself."""

    source: str
    rule: str
    stop: int
    threshold: float
    was: float
    share: float
    distance: float


def paper_share(source: SourceRows) -> float | None:
    """Return what the sliders aim at: the paper's share of clean, for strict sources only."""
    if source.policy.name == "clean" or source.source not in PAPER or not source.strict:
        return None
    paper = PAPER[source.source]
    return paper[2] / paper[1]


def best_step(source: SourceRows, band: float = BAND) -> Step | None:
    """Return the shortest single move that brings a source into its band; None where there is none."""
    cube, aim, judged = source.cube, paper_share(source), source.funnel.samples
    if cube is None or aim is None or not judged:
        return None
    found: list[tuple[int, float, str, int, float]] = []
    for rule, stops in cube.stops.items():
        for stop in range(len(stops)):
            if stop != cube.current[rule]:
                share = cube.kept({rule: stop}) / judged
                if abs(share / aim - 1) <= band:
                    found.append((abs(stop - cube.current[rule]), abs(share / aim - 1), rule, stop, share))
    if not found:
        return None
    _, _, rule, stop, share = min(found)
    now = cube.stops[rule][cube.current[rule]]
    return Step(source.source, rule, stop, cube.stops[rule][stop], now, share, share / aim - 1)


def tunable(sources: Sequence[SourceRows]) -> tuple[list[SourceRows], list[SourceRows]]:
    """Return sources whose sliders fit into one page, and those whose cubes are too large for it."""
    having = [s for s in sources if s.cube is not None and s.cube.stops and s.funnel.samples]
    fit, large, cells = [], [], 0
    for source in having:
        size = _cells(_cube(source, len(sources) > 1))
        if cells + size <= MOST_CELLS:
            fit.append(source)
            cells += size
        else:
            large.append(source)
    return fit, large


def _cells(cube: Cube) -> int:
    return sum(len(cells) for cells in cube.cells.values())


def _cube(source: SourceRows, pooled: bool) -> Cube:
    assert source.cube is not None
    return source.cube.regrouped("all") if pooled else source.cube


def rule_of(source: SourceRows, reason: str) -> Filter:
    """Return a source's rule by reason."""
    return next(rule for rule in source.policy.filters if rule.reason == reason)


def payload(
    sources: Sequence[SourceRows], several: bool, band: float, version: str, applying: Mapping[str, Applying]
) -> dict[str, Any]:
    """Return the sliders' data: numbers, and names of sources and rules from our own closed lists.

    Args:
        sources: Those that are tuned in the page.
        several: Whether the page is about more than one source; then languages are pooled.
        band: How far from the paper a source may lie.
        version: What a command calls its result.
        applying: By source, how moved thresholds are applied.
    """
    found = []
    for source in sources:
        cube = _cube(source, several)
        rules = [
            {
                "name": reason,
                "path": f"policy.{reason}.{rule_of(source, reason).threshold}",
                "sign": sign(rule_of(source, reason)),
                "unit": rule_of(source, reason).unit,
                "stops": [plain(stop) for stop in cube.stops[reason]],
                "now": cube.current[reason],
                "atLeast": at_least(rule_of(source, reason)),
            }
            for reason in cube.rules
        ]
        found.append(
            {
                "id": source.source,
                "judged": source.funnel.samples,
                "paper": paper_share(source),
                "apply": applying[source.source].plain() if source.source in applying else None,
                "rules": rules,
                "groups": [
                    {"fixed": cube.fixed_drops.get(name, 0), "cells": _packed(cube.cells.get(name, {}))}
                    for name in cube.groups
                ],
            }
        )
    return {"sources": found, "band": band, "version": version}


def plain(stop: float) -> float | int:
    """Return a threshold as a command takes it: whole numbers without a point."""
    return int(stop) if stop == int(stop) else stop


def _packed(cells: Any) -> str:
    """Return cells as text: digits and rows, one after the other."""
    return " ".join(f"{digits} {rows}" for digits, rows in cells.items())


def sliders(source: SourceRows) -> list[dict[str, Any]]:
    """Return one source's sliders as they stand before any script runs, in the policy's order."""
    assert source.cube is not None
    cube = source.cube
    order = [rule.reason for rule in source.policy.filters if rule.reason in cube.stops]
    return [
        {
            "name": reason,
            "index": cube.rules.index(reason),
            "stops": len(cube.stops[reason]),
            "now": cube.current[reason],
            "words": "at least" if at_least(rule_of(source, reason)) else "at most",
            "unit": rule_of(source, reason).unit,
            "threshold": f"{sign(rule_of(source, reason))} {number(cube.stops[reason][cube.current[reason]])}",
        }
        for reason in order
        if len(cube.stops[reason]) > 1
    ]
