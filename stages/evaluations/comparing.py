"""Two checkpoints on the same examples: how far apart they are, and whether that can be chance.

Both saw the same pictures, so each example is its own control: what is resampled is the difference on an example,
which is far surer than two intervals side by side (Koehn, 2004, "Statistical significance tests for machine
translation evaluation"; Dror et al., 2018, "The hitchhiker's guide to testing statistical significance in NLP").
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from stages.batches import generator_of
from stages.evaluation_metrics import Floats, Measure, grouped, resampled_means, spread
from stages.evaluations.base import GROUP
from stages.evaluations.choice import Choice
from stages.evaluations.results import Result, read_result, read_scores
from stages.manifest import Manifest, ManifestError, Part

FLIPS = 10_000
EXACT = 13
"""So many differing examples have all their 2^n signs tried; more have signs drawn."""


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
    """Bounds of the paired 95 % interval; None where the measure is no mean over examples."""
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


def paired_interval(
    differences: npt.ArrayLike, groups: Sequence[str] | None = None, most: float = 1.0
) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean difference.

    Where all examples differ alike, or none at all, `spread` says what may hide behind that.

    Args:
        differences: One per example.
        groups: Of which group each example is; they are drawn whole (questions about one picture).
        most: By how much one example can differ.
    """
    array = np.asarray(differences, dtype=np.float64)
    independent = len(set(groups or range(len(array))))
    return spread(resampled_means(array, groups), float(array.mean()), independent, -most, most)


def sign_flips(differences: npt.ArrayLike, groups: Sequence[str] | None = None) -> float:
    """Return the two-sided p of a mean difference under random signs (Fisher's randomisation test).

    All signs are tried where that is cheap; else they are drawn, the observed ones counting as one draw. All
    differences of a group get the same sign.
    """
    array = np.asarray(differences, dtype=np.float64)
    if groups is not None:
        array = grouped(array, groups)
    array = array[array != 0]
    if not len(array):
        return 1.0
    seen = abs(array.sum()) * (1 - 1e-12)  # sums in another order differ in the last bit
    if len(array) <= EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(array))))
        return float((np.abs(signs @ array) >= seen).mean())
    hits = sum(int((np.abs(signs @ array) >= seen).sum()) for signs in _signs(len(array)))
    return (1 + hits) / (1 + FLIPS)


def _signs(n: int) -> Iterator[Floats]:
    """Yield `FLIPS` rows of n random signs, in blocks of at most some ten million."""
    generator, done = generator_of("sign flips", n), 0
    while done < FLIPS:
        rows = min(FLIPS - done, max(1, 10_000_000 // n))
        yield np.asarray(generator.integers(0, 2, (rows, n)) * 2.0 - 1, dtype=np.float64)
        done += rows


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


def _twin(result: Result, measure: Measure) -> Measure | None:
    same = (each for each in result.measures if (each.name, each.language) == (measure.name, measure.language))
    return next(same, None)


def _common(one: Sequence[str], other: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the places of the keys that both have, in the order of the first."""
    places = {key: number for number, key in enumerate(other)}
    pairs = [(number, places[key]) for number, key in enumerate(one) if key in places]
    return [left for left, _ in pairs], [right for _, right in pairs]
