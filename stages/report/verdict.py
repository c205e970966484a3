"""May I start? One sentence made from the worst alarm, all alarms with both numbers, and the next move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filters.funnel import PAPER
from stages.planted import Counts, fraction, pooled
from stages.report.difference import Difference
from stages.report.languages import Unfair, unfair
from stages.report.paper import BAND, State, Target, target
from stages.report.rows import SourceRows
from stages.report.text import number, share, source_name
from stages.report.what_if import Step, best_step

SHOWN = 5
NULLS = 0.05
PLANTED = 0.9


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


@dataclass(frozen=True)
class Verdict:
    """What the first screen says."""

    state: str
    title: str
    alarms: tuple[Alarm, ...]
    targets: tuple[Target, ...]
    proposals: tuple[Step, ...]
    next_move: str


def judge(
    sources: Sequence[SourceRows],
    band: float = BAND,
    planted: Mapping[str, Counts] | None = None,
    changes: Sequence[Difference] = (),
    drawn: bool = False,
) -> Verdict:
    """Return the verdict over sources of one policy.

    Args:
        sources: What was judged.
        band: How far a strict source may lie from the paper's share.
        planted: Precision and recall against what the source planted, where it tells.
        changes: Differences from another run.
        drawn: Whether sources are drawn by us: they need not resemble the paper's, so a distance is no alarm.
    """
    targets = [found for source in sources if (found := target(source, band))]
    steps = {s.source: step for s in sources if _is_off(targets, s.source) and (step := best_step(s, band))}
    unfairs = [each for source in sources for each in unfair(source)]
    alarms = [_off(each, steps.get(each.source)) for each in targets if each.state is State.OFF and not drawn]
    alarms += _fairness(unfairs)
    if not drawn:
        alarms += [_unsure(each) for each in targets if each.state is State.UNSURE]
    alarms += [warning for source in sources for warning in _warnings(source, drawn)]
    if planted:
        alarms += _planted(planted)
    alarms += [_parents(change) for change in changes if not change.same_inputs]
    worst = alarms[0] if alarms else None
    state = _state(alarms)
    return Verdict(
        state=state,
        title=_drawn_title(sources, planted) if drawn and not unfairs else _title(sources, targets, unfairs),
        alarms=tuple(alarms),
        targets=tuple(targets),
        proposals=tuple(steps.values()),
        next_move=_next(state, worst, steps, sources),
    )


def _is_off(targets: Sequence[Target], source: str) -> bool:
    return any(each.source == source and each.state is not State.OK for each in targets)


def _state(alarms: Sequence[Alarm]) -> str:
    severities = [each.severity for each in alarms]
    if "alarm" in severities:
        return "hold"
    if "unsure" in severities:
        return "cannot say"
    if severities:
        return f"ready with {len(severities)} warning{'s' if len(severities) > 1 else ''}"
    return "ready"


def _off(found: Target, step: Step | None) -> Alarm:
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


def _fairness(found: Sequence[Unfair]) -> list[Alarm]:
    if not found:
        return []
    worst = max(found, key=lambda each: each.ratio)
    more = f"; {len(found)} cells of rule and language are above 3 times" if len(found) > 1 else ""
    sentence = (
        f"{worst.rule} drops captions in {worst.language[:40]} {worst.ratio:.1f} times as often as "
        f"{source_name(worst.source)} as a whole ({worst.hits:,} rows){more}."
    )
    return [Alarm("alarm", sentence, "languages", "Languages")]


def _unsure(found: Target) -> Alarm:
    low, high = found.interval or (found.ours, found.ours)
    aim = "the paper implies at least" if found.distance is None else "the paper keeps"
    theirs = found.rounding[0] if found.distance is None else found.paper
    return Alarm(
        "unsure",
        f"{source_name(found.source)} keeps {_percent(found.ours)} of {found.what.removeprefix('of ')} rows, with 95 % "
        f"between {_percent(low)} and {_percent(high)}; {aim} {_percent(theirs)}. More rows would tell.",
        "verdict",
        "Against the paper",
    )


def _warnings(source: SourceRows, drawn: bool) -> list[Alarm]:
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


def _planted(planted: Mapping[str, Counts]) -> list[Alarm]:
    whole: Any = pooled("", planted)
    low = [name for name in ("precision", "recall") if (value := getattr(whole, name)) is not None and value < PLANTED]
    return [
        Alarm(
            "warning",
            f"Against what was planted, {name} over all rules is {getattr(whole, name):.3f}, below {PLANTED}.",
            "rules",
            "Rules",
        )
        for name in low
    ]


def _parents(change: Difference) -> Alarm:
    return Alarm(
        "warning",
        f"The run compared with ({change.before}) judged other rows: {change.came:,} came and {change.went:,} went "
        "by listing or fetch.",
        "since",
        "Since last run",
    )


def _title(sources: Sequence[SourceRows], targets: Sequence[Target], unfairs: Sequence[Unfair]) -> str:
    off = [each for each in targets if each.state is State.OFF]
    unsure = [each for each in targets if each.state is State.UNSURE]
    if off and len(targets) > 1:
        return f"{len(off)} of {len(targets)} sources {'is' if len(off) == 1 else 'are'} off target"
    if off:
        return f"{source_name(off[0].source)} is off target"
    if unfairs:
        return f"{unfairs[0].rule} hits some languages much harder than others"
    if unsure:
        names = source_name(unsure[0].source) if len(unsure) == 1 else f"{len(unsure)} sources"
        return f"Too few rows to say whether {names} {'is' if len(unsure) == 1 else 'are'} on target"
    if len(targets) > 1:
        return f"All {len(targets)} sources agree with the paper"
    if targets:
        return f"{source_name(targets[0].source)} agrees with the paper"
    kept, judged = sum(s.funnel.kept for s in sources), sum(s.funnel.samples for s in sources)
    return f"{share(kept, judged)} of rows judged are kept" if judged else "No row was judged"


def _drawn_title(sources: Sequence[SourceRows], planted: Mapping[str, Counts] | None) -> str:
    kept, judged = sum(s.funnel.kept for s in sources), sum(s.funnel.samples for s in sources)
    title = f"{share(kept, judged)} of rows judged are kept" if judged else "No row was judged"
    if planted:
        whole = pooled("", planted)
        title += f"; recall of what was planted is {fraction(whole.recall)}"
    return title


def _next(state: str, worst: Alarm | None, steps: Mapping[str, Step], sources: Sequence[SourceRows]) -> str:
    if state == "hold" and worst is not None and worst.hash:
        return "Try the proposed step under What if, look at the rows it moves, and apply it as a new version."
    if state == "hold" and worst is not None:
        return f"Look at {worst.words} below before any GPU hour is spent."
    if state == "cannot say":
        return "Judge more rows of the source, or go on knowing that this target is open."
    if not any(source.funnel.samples for source in sources):
        return "Nothing was fetched: run the download stage again, then this one."
    step = "the strict policy" if sources[0].policy.name == "clean" else "the shards"
    return f"Go on with {step}; look at the rows at the edge once."
