"""What-if questions and their answers in words: the same for the terminal and for a run's page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from filters.solver import Proposal, propose
from infra.storage import Store
from pipelines.changes import parse
from stages.manifest import Manifest, load
from stages.ref import Ref
from stages.report.applying import applying_of
from stages.what_if import Answer, Judged, answer, changes_of, judged_of

LANGUAGES_SHOWN = 20


@dataclass(frozen=True)
class Question:
    """Rules as they would be, or a goal that rules are to be moved to."""

    changes: tuple[str, ...] = ()
    target: float | None = None
    budget: int | None = None
    move: tuple[str, ...] = ()
    within: float = 0.0

    def check(self) -> None:
        """Raise ValueError where the question cannot be asked so."""
        kinds = [bool(self.changes), self.target is not None, self.budget is not None]
        if sum(kinds) != 1:
            raise ValueError(
                "say one thing: what to change (--set rule.field=value), what share to keep (--target 0.047), or how "
                "many rows (--budget 1000)"
            )
        if self.move and self.changes:
            raise ValueError("--move names rules that a target or budget may move; it does not go with --set")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(
                f"target {self.target:g} is no share of rows; it lies above 0 and up to 1, such as 0.047"
            )
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"budget {self.budget} keeps nothing; name how many rows to keep at most")
        if not 0 <= self.within < 1:
            raise ValueError(f"within {self.within:g} is no share; 0.02 takes what misses the goal by 2 %")


@dataclass(frozen=True)
class Table:
    """Numbers, already in words; the first column is text."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Reply:
    """The answer for one source."""

    ref: Ref
    answer: Answer
    changes: tuple[str, ...]
    command: str
    proposal: Proposal | None = None
    given_up: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "verdicts": str(self.ref),
            "changes": list(self.changes),
            **self.answer.model_dump(mode="json"),
            "together": self.answer.together,
            "proposal": self.proposal.model_dump(mode="json") if self.proposal else None,
            "command": self.command,
        }


def ask(store: Store, ref: str, question: Question, sources: Sequence[str] = ()) -> list[Reply]:
    """Answer a question for the source of some verdicts, and for more sources of the same policy and version.

    Raises:
        ManifestError: The verdicts do not stand, or are too old to be asked.
        ValueError: The question names what is not there.
    """
    question.check()
    first = Ref.model_validate(ref)
    policy = first.name.rpartition("/")[0]
    refs = dict.fromkeys([first, *(Ref(name=f"{policy}/{source}", version=first.version) for source in sources)])
    return [_reply(store, judged_of(load(store, each)), question) for each in refs]


def _reply(store: Store, judged: Judged, question: Question) -> Reply:
    changes, proposal = question.changes, None
    if not changes:
        goal = (
            question.budget if question.budget is not None else round((question.target or 0) * judged.cube.samples())
        )
        proposal = propose(judged.cube, goal, question.move, question.budget is not None, question.within)
        thresholds = {rule.reason: rule.threshold for rule in judged.policy.filters}
        changes = tuple(f"{cost.rule}.{thresholds[cost.rule]}={number(cost.after)}" for cost in proposal.costs)
    ref = judged.manifest.ref
    return Reply(
        ref=ref,
        answer=answer(store, judged, changes_of(judged, parse(changes))),
        changes=changes,
        command=command_of(store, judged.manifest, changes),
        proposal=proposal,
        given_up=judged.cube.dropped_stops,
    )


def command_of(store: Store, manifest: Manifest, changes: Sequence[str]) -> str:
    """Return the command that applies changes under a version of their own; empty where nothing changes.

    Also empty where what was judged no longer stands, or cannot be started from.
    """
    applying = applying_of(store, manifest.ref, manifest.identity) if changes else None
    if applying is None:
        return ""
    return applying.command(manifest.identity["parameters"]["source"], changes, f"{manifest.ref.version}-moved")


def number(value: float) -> str:
    """Return a threshold as it is typed."""
    return str(int(value)) if float(value).is_integer() else repr(value)


def share(part: float, whole: float) -> str:
    """Return a percentage, or a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.2f} %" if whole else "–"


def sentences(reply: Reply) -> list[str]:
    """Return what there is to say, beside the tables."""
    found, lines = reply.answer, []
    lines.append(
        f"Now {found.before:,} of {found.judged:,} judged rows are kept ({share(found.before, found.judged)}); then "
        f"{found.after:,} ({share(found.after, found.judged)}): {found.gained:,} gained, {found.lost:,} lost."
    )
    if found.together and len(found.alone) > 1:
        lines.append(f"{found.together:+,} rows follow from the changes together and from none alone.")
    lines.append(_beside_the_paper(found))
    if reply.proposal:
        lines += _about(reply.proposal, reply.given_up)
    if found.counted == "cube":
        lines.append("Counted by the cube, exact; no row was read.")
    else:
        rows = max(found.read.values(), default=0)
        lines.append(f"Counted by reading {', '.join(found.read)} of {rows:,} rows, because {found.why}.")
    return lines


def _beside_the_paper(found: Answer) -> str:
    if found.paper is None:
        return f"The paper has no source {found.source} to compare with."
    whole = found.fetched if found.policy == "clean" else found.judged
    distances = [
        f"{100 * (rows / whole / found.paper - 1):+.1f} %" if whole else "–" for rows in (found.before, found.after)
    ]
    return (
        f"The paper keeps {share(found.paper, 1)} of what was {found.paper_of}; distance now {distances[0]}, "
        f"then {distances[1]}."
    )


def _about(proposal: Proposal, given_up: dict[str, tuple[float, ...]]) -> list[str]:
    rules, goal = ", ".join(proposal.rules), f"{proposal.goal:,} rows ({share(proposal.goal, proposal.judged)})"
    lines = []
    if not proposal.within_reach:
        lines.append(
            f"{goal} cannot be met: with any stops of {rules}, between {proposal.least:,} and {proposal.most:,} rows "
            "are kept. This is the nearest; to go farther, let other rules move (--move RULE)."
        )
    else:
        off = proposal.kept - proposal.goal
        how = "exactly" if not off else f"{abs(off):,} rows {'more' if off > 0 else 'fewer'}"
        lines.append(f"Asked for {goal}: {how}. The best of {proposal.tried:,} combinations of {rules}.")
    if not proposal.settings:
        lines.append("Nothing needs to move.")
    if proposal.losing:
        some = (f"{plainly(each.language)} keeps {each.after:,} of {each.before:,}" for each in proposal.losing)
        lines.append(f"Languages that lose most: {', '.join(some)}.")
    if gone := sum(map(len, given_up.values())):
        lines.append(f"{gone} stops of {', '.join(given_up)} were given up to keep the cube small.")
    return lines


def tables(reply: Reply) -> list[Table]:
    """Return each change by itself, and what it does to languages."""
    found = reply.answer
    changed = [
        (path, f"{found.alone.get(path.removeprefix('policy.').partition('.')[0], 0):+,}") for path in reply.changes
    ]
    languages = sorted(found.languages.items(), key=lambda item: (-item[1].rows, item[0]))[:LANGUAGES_SHOWN]
    return [
        Table(("change", "rows if only this rule changes"), changed),
        Table(
            ("language", "rows", "kept now", "share", "kept then", "share", "change"),
            [
                (
                    plainly(name), f"{each.rows:,}", f"{each.before:,}", share(each.before, each.rows),
                    f"{each.after:,}", share(each.after, each.rows), f"{each.after - each.before:+,}",
                )
                for name, each in languages
            ],
        ),
    ]  # fmt: skip


def plainly(name: str) -> str:
    """Return a language's name, which comes from the web, without what a terminal would obey."""
    return "".join(letter for letter in name if letter.isprintable())[:40]


def markdown(replies: Sequence[Reply]) -> str:
    """Return replies as markdown; names of languages come from the web and are escaped."""
    lines = []
    for reply in replies:
        lines += [f"## {reply.ref}", "", *(text for each in sentences(reply) for text in (_escaped(each), ""))]
        for table in tables(reply):
            if table.rows:
                lines.append("| " + " | ".join(table.head) + " |")
                lines.append("| :-- |" + " --: |" * (len(table.head) - 1))
                lines += ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in table.rows]
                lines.append("")
        if reply.command:
            lines += ["```", reply.command, "```", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>#&!" else letter for letter in text)
