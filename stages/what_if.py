"""What other thresholds would keep: from the cube of a verdicts manifest, else from the few signals that matter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from filters.base import Filter
from filters.cube import Cube
from filters.funnel import PAPER, Funnel
from filters.policies import Policy
from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.rescan import rescan


class Judged(NamedTuple):
    """What a finished step of judging says of itself."""

    manifest: Manifest
    source: str
    policy: Policy
    funnel: Funnel
    cube: Cube


class Change(NamedTuple):
    """One rule as it would be."""

    path: str
    rule: Filter
    stop: int | None
    """Which stop of the cube it is; None where the cube does not know it."""


class Language(BaseModel):
    """Rows of one language."""

    model_config = ConfigDict(frozen=True)

    rows: int
    before: int
    after: int


class Answer(BaseModel):
    """What changes would do to one source."""

    model_config = ConfigDict(frozen=True)

    source: str
    policy: str
    judged: int = Field(description="Rows that the rules saw.")
    fetched: int
    before: int
    after: int
    gained: int = Field(description="Rows kept that were not.")
    lost: int = Field(description="Rows not kept that were.")
    alone: dict[str, int] = Field(description="Rule -> rows gained, or lost where negative, if only it changes.")
    languages: dict[str, Language]
    paper: float | None = Field(description="Share that the paper keeps; None where it has no such source.")
    paper_of: str = Field(description="Of what the paper's share is.")
    counted: str = Field(description="Where the numbers are from: cube, or scan.")
    read: dict[str, int] = Field(default_factory=dict, description="Signal -> rows read of it; empty for the cube.")
    why: str = Field(default="", description="Why the cube was not enough.")

    @property
    def together(self) -> int:
        """Rows that no change moves by itself: what needs them together, or what two of them both move."""
        return self.after - self.before - sum(self.alone.values())


def judged_of(manifest: Manifest) -> Judged:
    """Return policy and counts of a finished step of judging.

    Raises:
        ManifestError: It is another artifact, or from before counts were kept.
    """
    if manifest.stage != "filter":
        raise ManifestError(
            f"{manifest.ref} was made by stage {manifest.stage}; what-if asks verdicts, such as "
            "verdicts/caption_quality/laion_en@tiny"
        )
    if "cube" not in manifest.totals:
        raise ManifestError(
            f"{manifest.ref} has no cube; run stage filter again: internvl rerun filter --source "
            f"{manifest.ref.name.rpartition('/')[2]}"
        )
    given = manifest.identity["parameters"]
    return Judged(
        manifest,
        given["source"],
        Policy.model_validate(given["policy"]),
        Funnel.model_validate(manifest.totals["funnel"]),
        Cube.model_validate(manifest.totals["cube"]),
    )


def changes_of(judged: Judged, wanted: Mapping[str, Any]) -> list[Change]:
    """Return the rules as they would be.

    Args:
        judged: What was judged.
        wanted: `rule.field` -> value; `policy.` may stand before.

    Raises:
        ValueError: A rule or field is not in the policy, or a value is not allowed; the message says what there is.
    """
    rules = {rule.reason: rule for rule in judged.policy.filters}
    fields: dict[str, dict[str, Any]] = {}
    for path, value in wanted.items():
        reason, _, field = path.removeprefix("policy.").partition(".")
        if reason not in rules:
            known = ", ".join(rules) or "none: the source passes this step whole"
            raise ValueError(f"{judged.manifest.ref} has no rule {reason!r}; its rules are {known}")
        if field == "kind" or field not in type(rules[reason]).model_fields:
            known = ", ".join(name for name in type(rules[reason]).model_fields if name != "kind") or "none"
            raise ValueError(f"rule {reason} has no {field!r}; it has {known}")
        fields.setdefault(reason, {})[field] = value
    return [_change(judged.cube, rules[reason], given) for reason, given in fields.items()]


def _change(cube: Cube, rule: Filter, given: dict[str, Any]) -> Change:
    new = type(rule).model_validate(rule.model_dump() | given)
    only_threshold = all(getattr(new, name) == getattr(rule, name) for name in given if name != rule.threshold)
    stop = cube.stop(rule.reason, getattr(new, rule.threshold)) if rule.threshold and only_threshold else None
    return Change(", ".join(f"{rule.reason}.{name}={value}" for name, value in given.items()), new, stop)


def answer(store: Store, judged: Judged, changes: Sequence[Change]) -> Answer:
    """Return what changes would do: at once where the cube knows all of them, else by reading their signals.

    Raises:
        ManifestError: The signals are no longer there.
    """
    funnel, manifest = judged.funnel, judged.manifest
    paper, paper_of = paper_share(judged.source, judged.policy.name)
    common = {
        "source": judged.source,
        "policy": judged.policy.name,
        "judged": funnel.samples,
        "fetched": manifest.totals["fetched"],
        "before": funnel.kept,
        "paper": paper,
        "paper_of": paper_of,
    }
    unknown = [change.path for change in changes if change.stop is None]
    if unknown:
        counts = _from_signals(store, judged, changes)
        why = f"{', '.join(unknown)} is no stop of the cube"
        return Answer(**common, **counts, counted="scan", why=why)
    settings = {change.rule.reason: change.stop for change in changes if change.stop is not None}
    return Answer(**common, **_from_cube(judged.cube, settings), counted="cube")


def paper_share(source: str, policy: str) -> tuple[float | None, str]:
    """Return the share that the paper keeps, and of what.

    The light step is a bound: the paper's loss includes failed downloads (arXiv:2312.14238, Table 2).
    """
    column = 2 if policy == "caption_quality" else 1
    paper = PAPER.get(source)
    return (paper[column] / paper[column - 1] if paper else None), ("judged", "fetched, at least")[column == 1]


def _from_cube(cube: Cube, settings: dict[str, int]) -> dict[str, Any]:
    before, after = cube.kept_by_group(), cube.kept_by_group(settings)
    stayed = cube.kept({rule: max(stop, cube.current[rule]) for rule, stop in settings.items()})
    return {
        "after": sum(after.values()),
        "gained": sum(after.values()) - stayed,
        "lost": sum(before.values()) - stayed,
        "alone": {rule: cube.kept({rule: stop}) - sum(before.values()) for rule, stop in settings.items()},
        "languages": {
            name: Language(rows=cube.samples(name), before=before[name], after=after[name]) for name in cube.groups
        },
    }


def _from_signals(store: Store, judged: Judged, changes: Sequence[Change]) -> dict[str, Any]:
    found, before = rescan(store, judged.manifest, [change.rule for change in changes]), judged.funnel.kept
    return {
        "after": found.after,
        "gained": found.after - found.stayed,
        "lost": before - found.stayed,
        "alone": {rule: kept - before for rule, kept in found.alone.items()},
        "languages": {
            name: Language(rows=rows, before=kept, after=found.languages.get(name, 0))
            for name, (rows, kept) in judged.funnel.languages.items()
        },
        "read": found.read,
    }
