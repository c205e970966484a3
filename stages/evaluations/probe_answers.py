"""What probes answer: classes of one dataset found again in another, hits, and the mistakes that were nearest."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stages.evaluation_metrics import Bools, Floats, Measure
from stages.evaluation_report import Example
from stages.evaluations.base import Examples, HasClassIds
from stages.evaluations.classifying import (
    Answers,
    class_recall_parts,
    mean_recall_measure,
    nearest_mistakes,
    top_measure,
)
from stages.evaluations.encoders import MEASURED
from stages.manifest import ManifestError

SHOWN = 12
TOP5 = 5


def class_names(examples: Examples) -> list[str]:
    """Return names of the classes that tell them apart in other datasets too: ids where there are any."""
    ids = examples.class_ids if isinstance(examples, HasClassIds) else ()
    return list(ids or examples.classes)


def class_places(measured: Examples, trained: Examples, benchmark: str) -> list[int]:
    """Return where each class of a benchmark stands among those that a head was trained on.

    Raises:
        ManifestError: A class was never trained on, or names are not unique.
    """
    asked, known = class_names(measured), class_names(trained)
    if asked == known and len(known) > 1:
        return list(range(len(known)))
    if len(known) == 1:
        raise ManifestError(
            f"what a head learns for {benchmark} has the one class {known[0]!r}, and a class is told from others; "
            "complete the training data with a folder or a label for each class"
        )
    places = {name: place for place, name in enumerate(known)}
    advice = "name the classes alike in both, ImageNet's by WordNet id (n01440764)"
    if not places or len(places) < len(known) or len(set(asked)) < len(asked):
        raise ManifestError(
            f"the {len(known)} classes that a head learns for {benchmark} have {len(places)} names, so that those of "
            f"one dataset are not found again in the other; {advice}"
        )
    if strange := [name for name in asked if name not in places]:
        raise ManifestError(
            f"{benchmark} has the class {strange[0]!r} ({len(strange)} such) that its training data has not; {advice}"
        )
    return [places[name] for name in asked]


def labels_of(training: Examples, benchmark: str) -> list[int]:
    """Return the right class of each training example.

    Raises:
        ManifestError: One is none of the classes.
    """
    found = [training.label(number) for number in range(len(training))]
    for number, label in enumerate(found):
        if not 0 <= label < len(training.classes):
            raise ManifestError(
                f"{training.key(number)}, which a head learns from for {benchmark}, has label {label}, and there are "
                f"{len(training.classes)} classes; name all classes, or mend the labels"
            )
    return found


def answers_of(table: Floats, right: Bools) -> Answers:
    """Return scores, shape (examples, classes), as answers: examples without a right class count nowhere."""
    rows = np.flatnonzero(right.any(axis=1))
    return Answers(rows, right[rows], table[rows])


def measured(
    benchmark: str, answers: Mapping[str, Answers], votes: Mapping[str, Answers]
) -> tuple[list[Measure], dict[str, Floats]]:
    """Return all measures, the paper's first, and one value per example of which each is the mean."""
    measures: list[Measure] = []
    values: dict[str, Floats] = {}

    def add(name: str, said: Answers, k: int = 1) -> None:
        row, hits = top_measure(benchmark, "en", k, said)
        measures.append(replace(row, name=name))
        values[name] = hits.astype(np.float64)

    ours = answers[MEASURED]
    add("top1", ours)
    if ours.right.shape[1] > TOP5:
        add("top5", ours, TOP5)
    if (ours.right.sum(axis=1) == 1).all():
        measures.append(mean_recall_measure(benchmark, "en", ours))
        values["mean_class_recall"] = class_recall_parts(ours)
    for name, said in votes.items():
        add("knn_top1" if name == MEASURED else f"{name}_knn_top1", said)
    for name, said in answers.items():
        if name != MEASURED:
            add(f"{name}_top1", said)
    return measures, values


def mistakes(examples: Examples, answers: Answers) -> list[Example]:
    """Return the mistakes that were nearest to being right."""
    keys = [examples.key(int(number)) for number in answers.rows]
    found = []
    for row in nearest_mistakes(answers, keys, SHOWN):
        right = answers.right[row]
        wrong = int(np.where(right, -np.inf, answers.scores[row]).argmax())
        truth = ", ".join(examples.classes[int(number)] for number in np.flatnonzero(right))
        lines = [("is", truth), ("taken for", examples.classes[wrong]), ("example", keys[row])]
        found.append(Example("Nearest mistakes", examples.pictures(int(answers.rows[row]))[0], lines, right=False))
    return found
