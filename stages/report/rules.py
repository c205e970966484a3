"""What each rule does: how many rows it hits, how many only it hits, and which rules hit the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from filters.base import Filter
from filters.bits import BITS, reasons_of
from filters.funnel import Funnel, Histogram
from filters.policies import Policy
from filters.stops import stops_of
from stages.report.rows import Masks, SourceRows
from stages.report.svg import alone_bar, histogram
from stages.report.text import fine, language_name, share, source_name, with_unit

SHADES = 5
MATRIX = 14
LANGUAGES = 14
FEWEST = 50
"""Rows below which a language is not shown by itself."""


def limit(rule: Filter) -> float | None:
    """Return a rule's threshold; None for rules without a number."""
    return float(getattr(rule, rule.threshold)) if rule.threshold else None


def at_least(rule: Filter) -> bool:
    """Return whether a rule keeps what reaches its threshold, and not what stays below."""
    return rule.stops[-1] > rule.stops[0] if len(rule.stops) > 1 else rule.threshold.startswith("min")


def sign(rule: Filter) -> str:
    """Return how a measure is compared."""
    if rule.on_threshold_is_kept:
        return "≥" if at_least(rule) else "≤"
    return ">" if at_least(rule) else "<"


def condition(rule: Filter) -> str:
    """Return a rule's threshold as a person reads it."""
    at = limit(rule)
    return f"{sign(rule)} {with_unit(at, rule.unit)}" if at is not None else "none allowed"


def _drawn(graph: Histogram, rule: Filter) -> Markup:
    whole = bool(rule.threshold) and all(stop.is_integer() for stop in stops_of(rule))
    return histogram(graph, limit(rule), at_least(rule), rule.unit, whole, rule.on_threshold_is_kept)


def counted(masks: Masks, order: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return (total, alone, first) of each rule over rows counted by mask."""
    found = {}
    earlier = 0
    for reason in order:
        bit = 1 << BITS[reason]
        total = sum(rows for mask, rows in masks.items() if mask & bit)
        first = sum(rows for mask, rows in masks.items() if mask & bit and not mask & earlier)
        found[reason] = (total, masks.get(bit, 0), first)
        earlier |= bit
    return found


def shade(value: float, most: float) -> int:
    """Return a shade from 0 (nothing) to 5 (the most of its row)."""
    return min(SHADES, 1 + int((SHADES - 1) * value / most + 0.5)) if value and most else 0


def together(languages: Sequence[Mapping[str, Masks]]) -> dict[str, Masks]:
    """Return rows by language and mask over several sources."""
    found: dict[str, dict[int, int]] = {}
    for each in languages:
        for language, masks in each.items():
            into = found.setdefault(language, {})
            for mask, rows in masks.items():
                into[mask] = into.get(mask, 0) + rows
    return {language: found[language] for language in sorted(found)}


def by_rows(languages: Mapping[str, Masks]) -> list[str]:
    """Return languages, those with most rows first."""
    return sorted(languages, key=lambda name: (-sum(languages[name].values()), name))


def shown_languages(languages: Mapping[str, Masks], most: int = LANGUAGES) -> list[str]:
    """Return the languages that have a column of their own."""
    return [name for name in by_rows(languages) if sum(languages[name].values()) >= FEWEST][:most]


def table(policy: Policy, funnel: Funnel, sources: Sequence[SourceRows]) -> list[dict[str, Any]]:
    """Return one row per rule, in the policy's order."""
    order = [rule.reason for rule in policy.filters]
    everywhere = counted(funnel.masks, order)
    languages = together([source.languages for source in sources])
    names = shown_languages(languages)
    in_language = {name: counted(languages[name], order) for name in names}
    in_source = [(source, counted(source.funnel.masks, order)) for source in sources if source.policy.filters]
    most = max((total for total, _, _ in everywhere.values()), default=0)
    rows = []
    for rule in policy.filters:
        total, alone, first = everywhere[rule.reason]
        graph = funnel.histograms.get(rule.reason)
        rates = [in_language[name][rule.reason][0] / sum(languages[name].values()) for name in names]
        source_rates = [
            found[rule.reason][0] / max(source.funnel.samples, 1) if rule.reason in found else 0.0
            for source, found in in_source
        ]
        limits = {limit(r) for source, _ in in_source for r in source.policy.filters if r.reason == rule.reason}
        rows.append(
            {
                "reason": rule.reason,
                "condition": condition(rule) + (" · differs by source" if len(limits) > 1 else ""),
                "does": " ".join((type(rule).__doc__ or "").strip().split("\n")[0].split()),
                "origin": rule.origin,
                "histogram": _drawn(graph, rule) if graph else None,
                "bar": alone_bar(
                    total / most if most else 0,
                    alone / most if most else 0,
                    f"{rule.reason}: {total:,} rows, {alone:,} alone",
                ),
                "total": total,
                "total_share": fine(total, funnel.samples),
                "alone": alone,
                "alone_share": fine(alone, funnel.samples),
                "first": first,
                "first_share": fine(first, funnel.samples),
                "overlap": share(total - alone, total) if total else "–",
                "unknown": funnel.unknown.get(rule.reason, 0),
                "heat": _heat(rates, [language_name(name) for name in names]),
                "source_heat": _heat(source_rates, [source_name(s.source) for s, _ in in_source]),
            }
        )
    return rows


def _heat(rates: Sequence[float], names: Sequence[str]) -> list[dict[str, Any]]:
    most = max(rates, default=0)
    return [
        {"shade": shade(rate, most), "title": f"{name}: {100 * rate:.2f} %", "rate": f"{100 * rate:.1f}"}
        for name, rate in zip(names, rates, strict=True)
    ]


def groups(policy: Policy, funnel: Funnel, sources: Sequence[SourceRows]) -> list[tuple[str, Masks]]:
    """Return what the table can be restricted to: everything, each source where there are several, each language."""
    found: list[tuple[str, Masks]] = [("All rows", funnel.masks)]
    if len(sources) > 1:
        found += [(source_name(s.source), s.funnel.masks) for s in sources if s.policy.filters]
    languages = together([source.languages for source in sources])
    names = shown_languages(languages)
    return found + ([(name, languages[name]) for name in names] if len(names) > 1 else [])


def group_counts(policy: Policy, chosen: Sequence[tuple[str, Masks]]) -> list[list[Any]]:
    """Return, per group, its rows and (total, alone, first) of each rule: what the chips put into the table."""
    order = [rule.reason for rule in policy.filters]
    return [[sum(masks.values()), list(counted(masks, order).values())] for _, masks in chosen]


def matrix(policy: Policy, funnel: Funnel) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the rules that hit most, and of what each of them hits the share that the others hit too, in %."""
    hit = [rule.reason for rule in policy.filters if funnel.total(rule.reason)]
    chosen = sorted(hit, key=lambda name: (-funnel.total(name), name))[:MATRIX]
    lines = []
    for one in chosen:
        total = funnel.total(one)
        cells = []
        for other in chosen:
            part = (funnel.alone(one) if one == other else funnel.both(one, other)) / total
            cells.append({"percent": f"{100 * part:.0f}", "shade": shade(part, 1.0), "alone": one == other})
        lines.append({"reason": one, "cells": cells})
    return chosen, lines


def stands_out(policy: Policy, funnel: Funnel) -> list[str]:
    """Return two sentences: the most redundant rule and the most independent one."""
    hit = [rule.reason for rule in policy.filters if funnel.total(rule.reason) >= 8]
    if len(hit) < 2:
        return []
    overlap = {name: 1 - funnel.alone(name) / funnel.total(name) for name in hit}
    redundant = max(hit, key=lambda name: (overlap[name], funnel.total(name)))
    partner = max((n for n in hit if n != redundant), key=lambda name: funnel.both(redundant, name))
    free = min(hit, key=lambda name: (overlap[name], -funnel.total(name)))
    shared = share(funnel.both(redundant, partner), funnel.total(redundant))
    return [
        f"{shared} of what {redundant} drops, {partner} drops too: tuning {redundant} alone moves little.",
        f"{free} is the most independent rule: {share(funnel.alone(free), funnel.total(free))} of what it drops, "
        "only it drops.",
    ]


def commonest(funnel: Funnel, most: int = 7) -> list[tuple[str, str]]:
    """Return the commonest combinations of reasons, kept rows among them, with their shares of rows judged."""
    ordered = sorted(funnel.masks.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [(" + ".join(reasons_of(mask)) or "kept", fine(rows, funnel.samples)) for mask, rows in ordered]
