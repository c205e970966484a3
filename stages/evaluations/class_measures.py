"""How well scores of classes fit the classes that are right, beside what always giving the same answer would."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stages.evaluation_metrics import Bools, Floats, Measure, measure, ratio_measure, recall, winners
from stages.evaluations.base import Examples, HasSeveralLabels
from stages.manifest import ManifestError

BLOCK = 4096


def right_classes(examples: Examples) -> Bools:
    """Return which classes are right for each example, shape (examples, classes); a row may have several, or none."""
    found = np.zeros((len(examples), len(examples.classes)), dtype=bool)
    for number in range(len(examples)):
        several = isinstance(examples, HasSeveralLabels)
        found[number, list(examples.labels(number)) if several else examples.label(number)] = True  # type: ignore[attr-defined]
    return found


def class_places(measured: Sequence[str], trained: Sequence[str], benchmark: str) -> list[int]:
    """Return where each class of a benchmark stands among those that a head was trained on.

    Raises:
        ManifestError: A class was never trained on, or names are not unique.
    """
    if list(measured) == list(trained):
        return list(range(len(trained)))
    known = {name: place for place, name in enumerate(trained)}
    if len(known) < len(trained) or len(set(measured)) < len(measured):
        raise ManifestError(
            f"classes of {benchmark} are found among those of its training data by name, and names occur twice; "
            "name the classes by WordNet id (n01440764) in both"
        )
    if strange := [name for name in measured if name not in known]:
        raise ManifestError(
            f"{benchmark} has the class {strange[0]!r} ({len(strange)} in all) that its training data has not; name "
            "the classes alike in both: ImageNet's by WordNet id (n01440764)"
        )
    return [known[name] for name in measured]


def hits(scores: Floats, right: Bools, k: int) -> Bools:
    """Return for each example whether a right class is among its k best, shape (examples,)."""
    steps = range(0, len(scores), BLOCK)
    return np.concatenate([recall(scores[at : at + BLOCK], right[at : at + BLOCK], k) for at in steps])


def constant(right: Bools, k: int) -> float:
    """Return how often the k commonest classes, given as an answer to everything, hold a right one."""
    commonest = np.argsort(-right.sum(axis=0), kind="stable")[:k]
    return float(right[:, commonest].any(axis=1).mean())


def top(split: str, name: str, scores: Floats, right: Bools, k: int, blind: npt.NDArray[np.int64]) -> Measure:
    """Return how often a right class is among the k best as a row.

    Args:
        split: Name of the benchmark.
        name: Of the measure.
        scores: Shape (examples, classes).
        right: Same shape.
        k: How many are looked at.
        blind: Whose scores each example gets for the blind twin.
    """
    return measure(
        split, "en", name, hits(scores, right, k), chance=constant(right, k), blind=hits(scores[blind], right, k)
    )


def mean_class_recall(split: str, scores: Floats, right: Bools) -> Measure:
    """Return the mean over classes of the share of its examples that were recognised; one class per example."""
    found = hits(scores, right, 1)
    chance = 1 / int(right.any(axis=0).sum())
    return ratio_measure(split, "en", "mean_class_recall", right * found[:, None], right, chance=chance)


def confusion(scores: Floats, right: Bools) -> npt.NDArray[np.int64]:
    """Return how often each class (row) was taken for each (column); ties are no answer and count nowhere."""
    found = np.zeros((right.shape[1], right.shape[1]), dtype=np.int64)
    chosen = winners(scores)
    answered = chosen >= 0
    np.add.at(found, (right.argmax(axis=1)[answered], chosen[answered]), 1)
    return found


def near_misses(scores: Floats, right: Bools, keys: Sequence[str], count: int) -> list[int]:
    """Return the wrong answers that were nearest to being right, by the gap of scores, then by key."""
    best = np.where(right, scores, -np.inf).max(axis=1)
    wrong = np.where(right, -np.inf, scores).max(axis=1)
    missed = [number for number in range(len(keys)) if wrong[number] >= best[number]]
    return sorted(missed, key=lambda number: (wrong[number] - best[number], keys[number]))[:count]
