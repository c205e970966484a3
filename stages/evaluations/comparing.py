"""Two checkpoints on the same examples: how far apart they are, and whether that can be chance.

Both saw the same pictures, so each example is its own control: what is resampled is the difference on an example,
which is far surer than two intervals side by side (Koehn, 2004, "Statistical significance tests for machine
translation evaluation"; Dror et al., 2018, "The hitchhiker's guide to testing statistical significance in NLP").
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from stages.evaluation_metrics import Floats, Measure
from stages.evaluations.base import GROUP
from stages.evaluations.choice import Choice
from stages.evaluations.pairing import Ratios, paired_interval, ratio_exchanges, ratio_interval, sign_flips
from stages.evaluations.results import Result, read_result, read_scores
from stages.manifest import Manifest, ManifestError, Part


class Difference(BaseModel):
    """One measure of one row: `value` is the second checkpoint's less the first one's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: str
    measure: str
    unit: str
    first: float
    second: float
    value: float
    low: float | None = None
    """Bounds of the paired 95 % interval; None where the measure is made of nothing that is kept per example."""
    high: float | None = None
    p: float | None = None
    """How often random signs of the examples' differences give one as far from 0, both ways."""
    n: int
    """Examples that both saw."""


class Comparison(BaseModel):
    """All measures of the rows that two evaluations have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    differences: tuple[Difference, ...]
    refused: dict[str, str]
    """Rows that cannot be compared, and why."""


def compare(store: Store, first: Manifest, second: Manifest) -> Comparison:
    """Compare two evaluations row by row, on the examples that both saw, matched by key.

    Raises:
        ManifestError: They have no row in common on equal data; the message says why for each.
    """
    ours, theirs = ({part.key: part for part in each.parts} for each in (first, second))
    refused: dict[str, str] = {}
    differences: list[Difference] = []
    for row in sorted({*ours, *theirs}):
        if row not in ours or row not in theirs:
            refused[row] = f"only {first.ref if row in ours else second.ref} was measured on it"
        elif reason := _refusal(_choice(first, row), _choice(second, row)):
            refused[row] = reason
        else:
            differences += _row(store, (first, ours[row]), (second, theirs[row]))
    if not differences:
        told = "; ".join(f"{row}: {reason}" for row, reason in refused.items())
        raise ManifestError(
            f"{first.ref} and {second.ref} cannot be compared: {told or 'neither has a row'}; measure both on the "
            "same data: internvl evaluate CHECKPOINT --data DIR"
        )
    return Comparison(first=str(first.ref), second=str(second.ref), differences=tuple(differences), refused=refused)


def _choice(manifest: Manifest, row: str) -> Choice:
    return Choice.model_validate(manifest.identity["parameters"]["rows"][row])


def _refusal(one: Choice, other: Choice) -> str:
    if one.data != other.data:
        return f"the data differ: {one.place} ({one.data[:12]}) and {other.place} ({other.data[:12]})" + (
            "" if one.limit == other.limit else f", limits {one.limit} and {other.limit}"
        )
    if one.training != other.training:
        ours, theirs = ((each.training or "nothing")[:12] for each in (one, other))
        return f"their heads learned from other data: {ours} and {theirs}"
    if one.protocol != other.protocol:
        return f"it was measured by other protocols: {one.protocol} and {other.protocol}"
    names = sorted({*one.settings, *other.settings})
    changed = [name for name in names if one.settings.get(name) != other.settings.get(name)]
    if changed:
        said = ", ".join(f"{name} {one.settings.get(name)} and {other.settings.get(name)}" for name in changed)
        return f"it was measured in other ways: {said}"
    return ""


def _row(store: Store, one: tuple[Manifest, Part], other: tuple[Manifest, Part]) -> Iterator[Difference]:
    results = read_result(store, *one), read_result(store, *other)
    keys, scores = zip(*(read_scores(store, *each) for each in (one, other)), strict=True)
    left, right = _common(*keys)
    groups = [str(each) for each in scores[0][GROUP][left]] if GROUP in scores[0] else None
    for measure in results[0].measures:
        twin = _twin(results[1], measure)
        if twin is None:
            continue
        paired = measure.name in scores[0] and measure.name in scores[1] and len(left)
        if paired and results[0].measure(measure.name) == measure:
            yield _paired(
                results[0].name, measure, scores[0][measure.name][left], scores[1][measure.name][right], groups
            )
        elif measure.name in results[0].ratios and measure.name in results[1].ratios and len(left):
            pairs = results[0].ratios[measure.name]
            yield _ratios(results[0].name, measure, _of(scores[0], pairs, left), _of(scores[1], pairs, right), groups)
        else:
            yield Difference(
                row=results[0].name, measure=measure.name, unit=measure.unit, first=measure.value,
                second=twin.value, value=twin.value - measure.value, n=min(measure.n, twin.n),
            )  # fmt: skip


def _paired(row: str, measure: Measure, before: Floats, after: Floats, groups: Sequence[str] | None) -> Difference:
    differences = after - before
    seen = np.concatenate([before, after])
    # What examples count of CIDEr and of MME's sum passes 1.
    low, high = paired_interval(differences, groups, max(1.0, float(np.ptp(seen))))
    return Difference(
        row=row, measure=measure.name, unit=measure.unit, first=float(before.mean()), second=float(after.mean()),
        value=float(differences.mean()), low=low, high=high, p=sign_flips(differences, groups), n=len(differences),
    )  # fmt: skip


def _of(scores: Mapping[str, Floats], pairs: Sequence[tuple[str, str]], rows: Sequence[int]) -> Ratios:
    parts, wholes = (np.column_stack([scores[name][rows] for name in names]) for names in zip(*pairs, strict=True))
    return Ratios(parts, wholes)


def _ratios(row: str, measure: Measure, before: Ratios, after: Ratios, groups: Sequence[str] | None) -> Difference:
    low, high = ratio_interval(before, after, groups)
    first, second = before.value, after.value
    return Difference(
        row=row, measure=measure.name, unit=measure.unit, first=first, second=second, value=second - first,
        low=low, high=high, p=ratio_exchanges(before, after, groups), n=len(before.parts),
    )  # fmt: skip


def _twin(result: Result, measure: Measure) -> Measure | None:
    same = (each for each in result.measures if (each.name, each.language) == (measure.name, measure.language))
    return next(same, None)


def _common(one: Sequence[str], other: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the places of the keys that both have, in the order of the first."""
    places = {key: number for number, key in enumerate(other)}
    pairs = [(number, places[key]) for number, key in enumerate(one) if key in places]
    return [left for left, _ in pairs], [right for _, right in pairs]
