"""Whether rules written for one script hit another: how often each drops a language, beside its source as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filters.bits import BITS
from filters.policies import Policy
from stages.report.rows import Masks, SourceRows
from stages.report.rules import FEWEST, by_rows
from stages.report.statistics import ratio_interval, wilson
from stages.report.svg import share_whisker
from stages.report.text import rows as short
from stages.report.text import share

ALARM_RATIO = 3.0
ALARM_HITS = 8
ALARM_EXCLUDES = 2.0
UNKNOWN = "unknown"
"""No language: rows of which nobody could tell it carry no alarm."""
NEUTRAL = 1.4
MOST_RULES = 13
MOST_LANGUAGES = 60


@dataclass(frozen=True)
class Unfair:
    """A rule that drops a language much more often than its source as a whole."""

    source: str
    rule: str
    language: str
    ratio: float
    hits: int


def _hits(masks: Masks, reason: str) -> int:
    bit = 1 << BITS[reason]
    return sum(rows for mask, rows in masks.items() if mask & bit)


def is_alarm(hits: int, rows: int, all_hits: int, all_rows: int) -> bool:
    """Return whether a rule is unfair: above 3 times, with enough hits, and an interval that excludes 2."""
    if hits < ALARM_HITS or not rows or not all_hits:
        return False
    ratio = (hits / rows) / (all_hits / all_rows)
    return ratio > ALARM_RATIO and ratio_interval(hits, rows, all_hits, all_rows)[0] > ALARM_EXCLUDES


def unfair(source: SourceRows) -> list[Unfair]:
    """Return all alarms of a source, worst first."""
    whole = _pool(source.languages.values())
    all_rows, found = sum(whole.values()), []
    for rule in source.policy.filters:
        all_hits = _hits(whole, rule.reason)
        for language, masks in source.languages.items():
            if language == UNKNOWN:
                continue
            rows, hits = sum(masks.values()), _hits(masks, rule.reason)
            if rows >= FEWEST and is_alarm(hits, rows, all_hits, all_rows):
                ratio = (hits / rows) / (all_hits / all_rows)
                found.append(Unfair(source.source, rule.reason, language, ratio, hits))
    return sorted(found, key=lambda each: (-each.ratio, each.rule, each.language))


def _pool(languages: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    for masks in languages:
        for mask, rows in masks.items():
            found[mask] = found.get(mask, 0) + rows
    return found


def tone(ratio: float) -> str:
    """Return the class of a ratio on the two-hue scale; neutral near 1."""
    if 1 / NEUTRAL <= ratio <= NEUTRAL:
        return "t0"
    if ratio > 1:
        return "up1" if ratio <= 2 else "up2" if ratio <= ALARM_RATIO else "up3"
    return "down1" if ratio >= 0.5 else "down2"


def table(source: SourceRows) -> dict[str, Any] | None:
    """Return one source's languages by rules; None where languages were not counted."""
    if not source.languages or not source.policy.filters:
        return None
    whole = _pool(source.languages.values())
    all_rows = sum(whole.values())
    if not all_rows:
        return None
    rules = _rules(source.policy, whole)
    ordered = by_rows(source.languages)
    shown = [name for name in ordered if sum(source.languages[name].values()) >= FEWEST][:MOST_LANGUAGES]
    rest = [name for name in ordered if name not in shown]
    lines = [(name, source.languages[name], name != UNKNOWN) for name in shown]
    if rest:
        lines.append((f"{len(rest)} others, pooled", _pool(source.languages[name] for name in rest), False))
    intervals = [wilson(masks.get(0, 0), sum(masks.values())) for _, masks, _ in lines]
    scale = max([high for _, high in intervals] + [0.01])
    kept = whole.get(0, 0) / all_rows
    return {
        "rules": rules,
        "kept": share(whole.get(0, 0), all_rows),
        "scale": f"{100 * scale:.0f} %",
        "lines": [
            _line(name, masks, single, interval, rules, whole, scale, kept)
            for (name, masks, single), interval in zip(lines, intervals, strict=True)
        ],
    }


def _rules(policy: Policy, whole: Mapping[int, int]) -> list[str]:
    hits = {rule.reason: _hits(whole, rule.reason) for rule in policy.filters}
    most = sorted((name for name in hits if hits[name] >= ALARM_HITS), key=lambda name: -hits[name])[:MOST_RULES]
    return [rule.reason for rule in policy.filters if rule.reason in most]


def _line(
    name: str,
    masks: Masks,
    single: bool,
    interval: tuple[float, float],
    rules: Sequence[str],
    whole: Mapping[int, int],
    scale: float,
    kept: float,
) -> dict[str, Any]:
    rows, all_rows = sum(masks.values()), sum(whole.values())
    cells = []
    for reason in rules:
        hits, all_hits = _hits(masks, reason), _hits(whole, reason)
        ratio = (hits / rows) / (all_hits / all_rows)
        low, high = ratio_interval(hits, rows, all_hits, all_rows)
        cells.append(
            {
                "ratio": f"{ratio:.1f}×",
                "tone": tone(ratio),
                "alarm": single and is_alarm(hits, rows, all_hits, all_rows),
                "title": f"{hits:,} of {rows:,} rows"
                + (f", 95 % interval {low:.1f} to {high:.1f} times" if hits else ""),
            }
        )
    found = masks.get(0, 0) / rows
    return {
        "name": name,
        "rows": short(rows),
        "kept": share(masks.get(0, 0), rows),
        "low": f"{100 * interval[0]:.1f}",
        "high": f"{100 * interval[1]:.1f}",
        "whisker": share_whisker(
            found, *interval, scale, kept, f"{100 * found:.1f} % kept, 95 % interval {100 * interval[0]:.1f} to "
            f"{100 * interval[1]:.1f} %; source as a whole {100 * kept:.1f} %",
        ),
        "cells": cells,
    }  # fmt: skip
