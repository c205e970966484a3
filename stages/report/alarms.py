"""What stands in the way, and what should be known: one sentence each, with both numbers and where to look."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filters.funnel import PAPER
from stages.planted import Counts, pooled
from stages.report.difference import Difference
from stages.report.languages import Unfair
from stages.report.paper import Target
from stages.report.rows import SourceRows
from stages.report.text import language_name, number, share, source_name
from stages.report.what_if import Step

NULLS = 0.05
"""Share of rows without a signal from which on it is said."""
PLANTED = 0.9
"""Precision and recall against what was planted below which it is said."""


_TAG = re.compile(r"[A-Za-z-]{2,12}")


@dataclass(frozen=True)
class Alarm:
    """One thing that stands in the way, or should be known."""

    severity: str
    """alarm, unsure or warning."""
    sentence: str
    section: str
    words: str
    hash: str = ""
    """Where the sliders should stand, for a proposal."""
    plain: str = ""
    """The sentence without anything remote, where it has such words."""


def off_target(found: Target, step: Step | None) -> Alarm:
    """Return the alarm of a source that is off target, with the step that mends it where there is one."""
    name = source_name(found.source)
    if found.distance is None:
        return Alarm(
            "alarm",
            f"{name} keeps {share(found.ours, 1)} of decodable rows in the clean step; the paper implies at least "
            f"{share(found.rounding[0], 1)}.",
            "rules",
            "Rules",
        )
    if found.rounding == (1.0, 1.0):
        return Alarm(
            "alarm",
            f"{name} keeps {share(found.ours, 1)} of clean rows; the paper passes this source whole, exactly 100 %.",
            "rules",
            "Rules",
        )
    sentence = f"{name} keeps {_percent(found.ours)} of clean rows; the paper keeps {_percent(found.paper)}."
    if step is None:
        return Alarm("alarm", f"{sentence} No single stop brings it into the band.", "what-if", "What if")
    sentence += (
        f" {step.rule} moved from {number(step.was)} to {number(step.threshold)} for {name} alone lands at "
        f"{_percent(step.share)}."
    )
    return Alarm("alarm", sentence, "what-if", "Try it in what-if", f"w={step.source};{step.rule}={step.stop}")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def unfair_rules(found: Sequence[Unfair]) -> list[Alarm]:
    """Return one alarm for all rules that hit a language much harder than its source."""
    if not found:
        return []
    worst = max(found, key=lambda each: each.ratio)
    more = f"; {len(found)} cells of rule and language are above 3 times" if len(found) > 1 else ""
    sentence, plain = (
        f"{worst.rule} drops captions in {language} {worst.ratio:.1f} times as often as "
        f"{source_name(worst.source)} as a whole ({worst.hits:,} rows){more}."
        for language in (
            language_name(worst.language),
            worst.language if _TAG.fullmatch(worst.language) else "a language",
        )
    )
    return [Alarm("alarm", sentence, "languages", "Languages", plain=plain)]


def undecided(found: Target) -> Alarm:
    """Return what has to be said where rows are too few to tell."""
    low, high = found.interval or (found.ours, found.ours)
    aim = "the paper implies at least" if found.distance is None else "the paper keeps"
    theirs = found.rounding[0] if found.distance is None else found.paper
    return Alarm(
        "unsure",
        f"{source_name(found.source)} keeps {_percent(found.ours)} of {found.what.removeprefix('of ')} rows, with "
        f"95 % between {_percent(low)} and {_percent(high)}; {aim} {_percent(theirs)}. More rows would tell.",
        "verdict",
        "Against the paper",
    )


def warnings_of(source: SourceRows, drawn: bool) -> list[Alarm]:
    """Return what a reader should know of a source: signals that were not computed, rows that no rule took."""
    found, name = [], source_name(source.source)
    for rule in source.policy.filters:
        missing = source.funnel.unknown.get(rule.reason, 0)
        if source.funnel.samples and missing / source.funnel.samples > NULLS:
            found.append(
                Alarm(
                    "warning",
                    f"{rule.reason} was not computed for {share(missing, source.funnel.samples)} of {name} "
                    f"({missing:,} rows).",
                    "rules",
                    "Rules",
                )
            )
    paper = PAPER.get(source.source)
    if paper and not drawn and source.listed and source.clean / source.listed < paper[1] / paper[0]:
        away = 1 - source.decodable / source.listed
        by_rules = (source.decodable - source.clean) / source.listed
        if away > by_rules:
            found.append(
                Alarm(
                    "warning",
                    f"{name}: clean is {share(source.clean, source.listed)} of listed, in the paper "
                    f"{share(paper[1], paper[0])}. {100 * away:.1f} points were never fetched, the clean rules took "
                    f"{100 * by_rules:.1f}. No threshold explains this.",
                    "downloads",
                    "Downloads",
                )
            )
    return found


def missed_dirt(planted: Mapping[str, Counts]) -> list[Alarm]:
    """Return warnings where planted dirt was missed, or rows were hit without any."""
    whole: Any = pooled("", planted)
    low = [
        name for name in ("precision", "recall") if (value := getattr(whole, name)) is not None and value < PLANTED
    ]
    return [
        Alarm(
            "warning",
            f"Against what was planted, {name} over all rules is {getattr(whole, name):.3f}, below {PLANTED}.",
            "rules",
            "Rules",
        )
        for name in low
    ]


def other_rows(change: Difference) -> Alarm:
    """Return the warning that two runs judged different rows."""
    return Alarm(
        "warning",
        f"The run compared with ({change.before}) judged other rows: {change.came:,} came and {change.went:,} went "
        "by listing or fetch.",
        "since",
        "Since last run",
    )
