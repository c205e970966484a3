"""Numbers that say how well a model does, each with what guessing gives and how sure it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.batches import generator_of

RESAMPLES = 1000
REMEMBERED = 5_000
"""Up to so many samples the draws of the bootstrap are kept (40 MB); beyond they are drawn again, block by block."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Measure:
    """One row of a report.

    `chance` is what guessing without learning gives (for questions: always the commonest answer),
    `blind` what the model itself gives when it sees the picture of another sample. `low` and
    `high` bound the 95 % interval over samples; other seeds of training are not in it.
    """

    split: str
    language: str
    name: str
    value: float
    n: int
    low: float
    high: float
    chance: float | None = None
    blind: float | None = None
    unit: str = "%"

    @property
    def key(self) -> str:
        """Return the name of this number among the totals of a manifest."""
        return f"{self.split}_{self.language}_{self.name}"

    def row(self) -> dict[str, Any]:
        """Return all fields, numbers rounded to what they are worth."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@lru_cache(maxsize=8)
def _resampled(n: int) -> Floats:
    """Return how often each of n samples is drawn, shape (RESAMPLES, n); the same for every measure."""
    return generator_of("bootstrap", n).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def resampled_means(values: npt.ArrayLike, groups: Sequence[str] | None = None) -> Floats:
    """Return the mean of each of the bootstrap's samples of some values, shape (RESAMPLES, ...).

    Args:
        values: Shape (samples, ...).
        groups: Of which group each sample is. Groups are drawn whole then: samples of one group (questions about the
            same picture) hit and miss together, and drawing them one by one would promise too much.
    """
    array = np.asarray(values, dtype=np.float64)
    if groups is not None and len(set(groups)) < len(array):
        table = grouped(np.column_stack([np.ones(len(array)), array]), groups)
        drawn = resampled_means(table)
        return np.asarray((drawn[:, 1:] / drawn[:, :1]).reshape(len(drawn), *array.shape[1:]))
    n = len(array)
    if n <= REMEMBERED:
        return np.asarray(_resampled(n) @ array / n)
    generator, shares, rows = generator_of("bootstrap", n), np.full(n, 1 / n), max(1, 5_000_000 // n)
    # Drawn block by block the counts are those of one large draw: all of them would be gigabytes.
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([generator.multinomial(n, shares, size=size) @ array / n for size in sizes])


def grouped(values: Floats, groups: Sequence[str]) -> Floats:
    """Return the sum over each group of samples, in the order in which groups appear, shape (groups, ...)."""
    place = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(place), *values.shape[1:]))
    np.add.at(sums, [place[name] for name in groups], values)
    return sums


def bounds(values: Floats) -> tuple[float, float]:
    """Return between what 95 % of the values lie."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def spread(drawn: Floats, value: float, n: int, least: float = 0.0, most: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval of a number from resamples of it.

    Where all samples say the same, one sample alone for instance, resampling sees no spread at all. The exact
    binomial bound (Clopper and Pearson, 1934) says how large a share of other samples may hide behind that; they are
    taken to be as low, and as high, as can be.

    Args:
        drawn: The number in each resample.
        value: In all samples.
        n: How many independent samples there are.
        least: Lowest that one sample can say.
        most: Highest that one sample can say.
    """
    if len(drawn) and np.ptp(drawn) > 1e-9 * max(1.0, abs(value)):
        return bounds(drawn)
    alike = 0.025 ** (1 / n)
    return alike * value + (1 - alike) * min(least, value), alike * value + (1 - alike) * max(most, value)


def interval(values: npt.ArrayLike, most: float = 1.0) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean, `spread` saying what hides where all values are the same.

    Args:
        values: From 0 on, one per sample.
        most: Highest that a value can be.
    """
    array = np.asarray(values, dtype=np.float64)
    return spread(resampled_means(array), float(array.mean()), len(array), most=most)


def measure(
    split: str,
    language: str,
    name: str,
    values: npt.ArrayLike,
    *,
    chance: float | None = None,
    blind: npt.ArrayLike | None = None,
    unit: str = "%",
) -> Measure:
    """Return the mean of one value per sample (a hit is 1) as a row."""
    array = np.asarray(values, dtype=np.float64)
    low, high = interval(array)
    return Measure(
        split=split,
        language=language,
        name=name,
        value=float(array.mean()),
        n=len(array),
        low=low,
        high=high,
        chance=chance,
        blind=float(np.asarray(blind, dtype=np.float64).mean()) if blind is not None else None,
        unit=unit,
    )


def ratio_measure(
    split: str, language: str, name: str, parts: npt.ArrayLike, wholes: npt.ArrayLike, *, chance: float | None = None
) -> Measure:
    """Return the mean over columns of sum(parts) / sum(wholes) over samples as a row, which is no mean of samples.

    So are mIoU (a column per class: intersections, unions), recall per class and accuracy per pixel.

    Args:
        split: Where the samples are from.
        language: Theirs.
        name: Of the measure.
        parts: Shape (samples, columns) or (samples,).
        wholes: Same shape, at least one of them above 0; a column whose sum is 0 does not count, nor in a resample.
        chance: What guessing gives.
    """
    part, whole = (np.asarray(each, dtype=np.float64).reshape(len(np.asarray(each)), -1) for each in (parts, wholes))
    (value,) = mean_ratios(part.mean(axis=0, keepdims=True), whole.mean(axis=0, keepdims=True))
    drawn = mean_ratios(resampled_means(part), resampled_means(whole))
    low, high = spread(drawn[~np.isnan(drawn)], float(value), len(part))
    return Measure(split, language, name, float(value), len(part), low, high, chance=chance)


def mean_ratios(parts: Floats, wholes: Floats) -> Floats:
    """Return the mean over columns of their ratios, shape (rows,); nan where all wholes of a row are 0.

    Args:
        parts: Shape (rows, columns).
        wholes: Same shape; a column does not count in a row where it is 0.
    """
    counted = wholes > 0
    ratios = np.divide(parts, wholes, out=np.zeros_like(parts), where=counted)
    columns = counted.sum(axis=1)
    return np.asarray(np.where(columns > 0, ratios.sum(axis=1) / np.maximum(columns, 1), np.nan))


def recall(scores: Floats, right: Bools, k: int) -> Bools:
    """Return for each query whether a right candidate is among its k best.

    A wrong candidate that scores as high as the best right one stands before it, so that equal
    scores never count as knowledge.

    Args:
        scores: Shape (queries, candidates).
        right: Which candidates are right, same shape; at least one per query.
        k: How many are looked at.

    Returns:
        Shape (queries,).
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    before = (~right & (scores >= best)).sum(axis=1)
    return np.asarray(before < k)


def recall_chance(right: Bools, k: int) -> float:
    """Return the recall that a random order of the candidates has on average."""
    return chance_of_finding(right.sum(axis=1), right.shape[1], k)


def chance_of_finding(right: npt.ArrayLike, candidates: int, k: int) -> float:
    """Return how often k candidates drawn blindly hold a right one, where each query has this many right ones."""
    wrong = candidates - np.asarray(right)
    missed = np.ones(len(wrong))
    for drawn in range(min(k, candidates)):
        missed *= np.clip(wrong - drawn, 0, None) / (candidates - drawn)
    return float((1 - missed).mean())


def retrieval_measures(
    split: str, language: str, scores: Floats, captions: Sequence[str], prefix: str = ""
) -> list[Measure]:
    """Return recall at 1 and 5 in both directions; a caption that several pictures share is right for all of them.

    Args:
        split: Where the pictures are from.
        language: Of the captions.
        scores: Similarities of shape (pictures, captions).
        captions: One per picture.
        prefix: Put before each name.
    """
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    ids = np.array([numbers[caption] for caption in captions])
    right = ids[:, None] == ids[None]
    found = []
    for k in (1, 5):
        for direction, table in (("image_to_text", scores), ("text_to_image", scores.T)):
            name = f"{prefix}recall_at_{k}_{direction}"
            hits = recall(table, right, k)
            found.append(measure(split, language, name, hits, chance=recall_chance(right, k)))
    return found


def auc_measure(split: str, language: str, name: str, right: Floats, wrong: Floats) -> Measure:
    """Return the area under the curve as a row; `right` and `wrong` hold one score per picture."""
    above = (right[:, None] > wrong[None]) + 0.5 * (right[:, None] == wrong[None])
    drawn = _resampled(len(right))
    low, high = bounds(((drawn @ above) * drawn).sum(axis=1) / len(right) ** 2)
    return Measure(split, language, name, float(above.mean()), len(right), low, high, chance=0.5, unit="AUC")


def winners(scores: Floats) -> npt.NDArray[np.int64]:
    """Return the best column of each row, -1 where two are equally good: a tie is no answer."""
    best = scores.max(axis=1, keepdims=True)
    alone = (scores == best).sum(axis=1) == 1
    return np.where(alone, scores.argmax(axis=1), -1)


def majority(answers: Sequence[str]) -> float:
    """Return the share of the commonest answer: what one gets by always giving it."""
    return max(answers.count(answer) for answer in set(answers)) / len(answers)
