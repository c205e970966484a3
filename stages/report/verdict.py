"""May I start? One sentence made from the worst alarm, all alarms with both numbers, and the next move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.planted import Counts, fraction, pooled
from stages.report.alarms import (
    Alarm,
    missed_dirt,
    off_target,
    other_rows,
    undecided,
    unfair_rules,
    warnings_of,
)
from stages.report.difference import Difference
from stages.report.languages import Unfair, unfair
from stages.report.paper import BAND, State, Target, target
from stages.report.rows import SourceRows
from stages.report.text import share, source_name
from stages.report.what_if import Step, best_step

SHOWN = 5


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
    steps = {
        s.source: step for s in sources if not drawn and _is_off(targets, s.source) and (step := best_step(s, band))
    }
    unfairs = [each for source in sources for each in unfair(source)]
    alarms = [off_target(each, steps.get(each.source)) for each in targets if each.state is State.OFF and not drawn]
    alarms += unfair_rules(unfairs)
    if not drawn:
        alarms += [undecided(each) for each in targets if each.state is State.UNSURE]
    alarms += [warning for source in sources for warning in warnings_of(source, drawn)]
    if planted:
        alarms += missed_dirt(planted)
    alarms += [other_rows(change) for change in changes if not change.same_inputs]
    worst = alarms[0] if alarms else None
    state = _state(alarms)
    return Verdict(
        state=state,
        title=_drawn_title(sources, planted)
        if drawn and not unfairs
        else _title(sources, [] if drawn else targets, unfairs),
        alarms=tuple(alarms),
        targets=tuple(targets),
        proposals=tuple(steps.values()),
        next_move=_next(state, worst, steps, sources),
    )


def _is_off(targets: Sequence[Target], source: str) -> bool:
    return any(each.source == source and each.state is State.OFF for each in targets)


def _state(alarms: Sequence[Alarm]) -> str:
    severities = [each.severity for each in alarms]
    if "alarm" in severities:
        return "hold"
    if "unsure" in severities:
        return "cannot say"
    if severities:
        return f"ready with {len(severities)} warning{'s' if len(severities) > 1 else ''}"
    return "ready"


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
        return f"Look at {worst.words} on the page before any GPU hour is spent."
    if state == "cannot say":
        return "Judge more rows of the source, or go on knowing that this target is open."
    if not any(source.funnel.samples for source in sources):
        if any(source.decodable for source in sources):
            return "The clean step kept nothing: look at its rules before anything else."
        return "Nothing was fetched: run the download stage again, then this one."
    step = "the strict policy" if sources[0].policy.name == "clean" else "the shards"
    return f"Go on with {step}; look at the rows at the edge once."
