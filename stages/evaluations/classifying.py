"""Which class a vector is nearest to, and the numbers that say how often that is right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.batches import generator_of
from stages.evaluation_metrics import (
    RESAMPLES,
    Bools,
    Floats,
    Measure,
    chance_of_finding,
    measure,
    spread,
    winners,
)
from stages.evaluations.base import Examples, HasLabels
from stages.manifest import ManifestError

DIGITS = 6
"""Scores are rounded to so many decimals. In single precision a picture's cosines differ by some 1e-8 between batches
of different sizes: without those traces equal pictures tie, wherever they stand. Of equal pictures whose score lies
at the edge between two decimals, about one in twenty at the noise that was measured, a trace may remain."""

FEW = 5
"""Examples below which a class's own share of hits says too little of its spread."""


class Answers(NamedTuple):
    """What a classifier said about all examples; rows are examples that have a right class."""

    rows: npt.NDArray[np.int64]
    """Numbers of the examples, shape (rows,)."""
    right: Bools
    """Which classes are right, shape (rows, classes)."""
    scores: Floats
    """Shape (rows, classes)."""

    @property
    def chosen(self) -> npt.NDArray[np.int64]:
        """Return the best class of each row, -1 where two are equally good."""
        return winners(self.scores)

    @property
    def margins(self) -> Floats:
        """Return how far the best wrong class stands above the best right one, shape (rows,); below 0 is a hit."""
        return best(self.scores, ~self.right) - best(self.scores, self.right)


def best(scores: Floats, among: Bools) -> Floats:
    """Return the highest score of each row among some columns, -inf where there are none."""
    return np.asarray(np.where(among, scores, -np.inf).max(axis=1))


def answer(vectors: Floats, classes: Floats, right: Bools) -> Answers:
    """Return cosines of pictures and classes, for the pictures that have a right class.

    Args:
        vectors: Of unit length, shape (examples, width).
        classes: Of unit length, shape (classes, width).
        right: Which classes are right, shape (examples, classes).
    """
    rows = np.flatnonzero(right.any(axis=1))
    return Answers(rows, right[rows], np.round(vectors[rows] @ classes.T, DIGITS))


def truths(examples: Examples, classes: int, benchmark: str) -> Bools:
    """Return which classes are right for each example, shape (examples, classes).

    Raises:
        ManifestError: A label is none of the classes, or no example has a label.
    """
    found = np.zeros((len(examples), classes), dtype=bool)
    for number in range(len(examples)):
        labels = examples.right_labels(number) if isinstance(examples, HasLabels) else (examples.label(number),)
        for label in labels:
            if not 0 <= label < classes:
                raise ManifestError(
                    f"{examples.key(number)} of {benchmark} has label {label}, and there are {classes} classes; name "
                    "all classes in setting `class_names`, or mend the labels"
                )
            found[number, label] = True
    if not found.any():
        raise ManifestError(f"no example of {benchmark} has a label; give a dataset of which the classes are known")
    return found


def top_k(answers: Answers, k: int) -> Bools:
    """Return for each row whether a right class is among the k best; a wrong one as good as it stands before it."""
    before = (~answers.right & (answers.scores >= best(answers.scores, answers.right)[:, None])).sum(axis=1)
    return np.asarray(before < k)


def top_measure(split: str, language: str, k: int, answers: Answers) -> tuple[Measure, Bools]:
    """Return how often a right class is among the k best, and the hits.

    Its blind twin is the model looking at the picture of another example, drawn at random.
    """
    hits = top_k(answers, k)
    others = generator_of("blind", len(hits)).permutation(len(hits))
    blind = top_k(answers._replace(scores=answers.scores[others]), k)
    chance = chance_of_finding(answers.right.sum(axis=1), answers.right.shape[1], k)
    return measure(split, language, f"top{k}", hits, chance=chance, blind=blind), hits


def class_recalls(answers: Answers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many examples each class has and how many of them were given it, both of shape (classes,)."""
    hit = answers.right & (answers.chosen[:, None] == np.arange(answers.right.shape[1]))
    return answers.right.sum(axis=0), hit.sum(axis=0)


def mean_recall_measure(split: str, language: str, answers: Answers) -> Measure:
    """Return the mean over the classes that occur of the share of their examples that were given them.

    Its interval is the bootstrap's with as many examples of each class as there are. A class of few examples tells
    nothing of its own spread, so such classes are drawn from what they share (collapsed strata: Cochran, 1977,
    "Sampling Techniques", section 5A.12).
    """
    counts, hits = class_recalls(answers)
    counts, hits = counts[counts > 0], hits[counts > 0]
    shares = hits / counts
    value = float(shares.mean())
    few = counts < FEW
    pooled = np.where(few, shares[few].mean() if few.any() else 0.0, shares)
    drawn = generator_of("class recalls", len(counts)).binomial(counts, pooled, size=(RESAMPLES, len(counts)))
    low, high = spread((drawn / counts).mean(axis=1), value, len(answers.rows))
    chance = 1 / answers.right.shape[1]
    return Measure(split, language, "mean_class_recall", value, len(answers.rows), low, high, chance=chance)


def precisions(answers: Answers, number: int) -> Floats:
    """Return the precision at each right example of a class in the ranking of all, 0 elsewhere, shape (rows,).

    At equal scores wrong examples stand before right ones.
    """
    right, order = _ranked(answers, number)
    found = np.zeros(len(order))
    found[order] = right * right.cumsum() / np.arange(1, len(right) + 1)
    return found


def _ranked(answers: Answers, number: int) -> tuple[Bools, npt.NDArray[np.int64]]:
    right = answers.right[:, number]
    order = np.lexsort((right, -answers.scores[:, number]))
    return right[order], order


def average_precision_parts(answers: Answers) -> Floats:
    """Return what each example adds to the mean average precision, shape (rows,): their mean is that number.

    A class's average precision is the mean of the precision at each of its examples, without interpolation, as
    CLIP_benchmark has it; the 11 points of the challenge of 2007 are another number. Classes that do not occur count
    nowhere.
    """
    counts = answers.right.sum(axis=0)
    classes = np.flatnonzero(counts)
    total = sum((precisions(answers, int(each)) / counts[each] for each in classes), np.zeros(len(answers.rows)))
    return np.asarray(total * len(answers.rows) / len(classes))


def mean_ap_measure(split: str, language: str, answers: Answers) -> Measure:
    """Return the mean average precision of the classes that occur.

    Its interval is the bootstrap's over examples, chance the share of right ones among all.
    """
    classes = np.flatnonzero(answers.right.any(axis=0))
    n = len(answers.rows)
    value = float(average_precision_parts(answers).mean())
    drawn = generator_of("average precision", n).multinomial(n, np.full(n, 1 / n), size=RESAMPLES // 5)
    found = np.zeros(len(drawn))
    for number in classes:
        right, order = _ranked(answers, int(number))
        weights = drawn[:, order].astype(np.float64)
        hits = weights * right
        precision = hits.cumsum(axis=1) / np.maximum(weights.cumsum(axis=1), 1)
        found += (hits * precision).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
    low, high = spread(found / len(classes), value, n)
    chance = float(answers.right[:, classes].mean())
    return Measure(split, language, "mean_ap", value, n, low, high, chance=chance)


def class_recall_parts(answers: Answers) -> Floats:
    """Return what each example adds to the mean class recall, shape (rows,): their mean is that number."""
    counts, _ = class_recalls(answers)
    chosen = answers.chosen
    hit = answers.right & (chosen[:, None] == np.arange(len(counts)))
    return np.asarray((hit / np.maximum(counts, 1)).sum(axis=1) * len(chosen) / (counts > 0).sum())


def confusion(answers: Answers) -> npt.NDArray[np.int64]:
    """Return how often each class was given for each right one, shape (classes, classes); ties are left out.

    Where several classes are right, the answer is counted with the one that was given, else with the first.
    """
    chosen, classes = answers.chosen, answers.right.shape[1]
    first = answers.right.argmax(axis=1)
    hit = (chosen >= 0) & answers.right[np.arange(len(chosen)), chosen]
    table = np.zeros((classes, classes), dtype=np.int64)
    said = chosen >= 0
    np.add.at(table, (np.where(hit, chosen, first)[said], chosen[said]), 1)
    return table


def nearest_mistakes(answers: Answers, keys: Sequence[str], count: int) -> list[int]:
    """Return the rows of the mistakes that were nearest to being right, then in the order of their keys."""
    margins = answers.margins
    wrong = np.flatnonzero(margins >= 0)
    return sorted(map(int, wrong), key=lambda row: (float(margins[row]), keys[row]))[:count]
