"""Zero-shot image classification: the class whose prompts lie nearest to the picture (arXiv:2312.14238, section 4.3).

After CLIP_benchmark, which made the paper's numbers: pictures are resized by their short side and cut to their
middle, a class is the mean of its prompts' vectors, the answer the class of highest cosine. Two classes that are
equally near are no answer.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from stages.evaluation_metrics import Floats, Measure, measure
from stages.evaluation_report import Example
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.classifying import (
    Answers,
    answer,
    average_precision_parts,
    class_recall_parts,
    class_recalls,
    confusion,
    mean_ap_measure,
    mean_recall_measure,
    nearest_mistakes,
    top_measure,
    truths,
)
from stages.evaluations.embedding import class_vectors, picture_vectors
from stages.evaluations.prompt_sets import FALLBACK, Prompts, PromptSettings, resolve
from stages.manifest import ManifestError

Metric = Literal["top1", "top5", "top1_top5_mean", "mean_class_recall", "mean_ap"]


class ClassSettings(PromptSettings):
    """What all zero-shot classifiers can be told."""

    queries: bool = Field(default=False, description="See with InternVL-G's queries too, the ensemble of both views.")
    metric: Metric = Field(default="top1", description="The measure that the paper reports; it comes first.")
    shown: int = Field(default=12, ge=0, description="Mistakes on the page, those nearest to being right.")


class Settings(ClassSettings):
    """The paper's, where nothing else is given."""


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Classify pictures of which the classes are known.

    Raises:
        ManifestError: The model is no InternVL-C or -G, or classes lack names, prompts or labels.
    """
    chosen = Settings.model_validate(settings)
    vectors = picture_vectors(subject, examples, crop=True, queries=chosen.queries)
    return classify(subject, examples, vectors, chosen, resolve(chosen, examples, benchmark), benchmark)


def classify(
    subject: Subject,
    examples: Examples,
    vectors: Floats,
    settings: ClassSettings,
    prompts: Prompts,
    benchmark: str,
    *,
    with_mean: bool = False,
) -> Outcome:
    """Return everything that is said of examples by their vectors.

    Args:
        subject: The model.
        examples: What was looked at.
        vectors: Of unit length, shape (examples, embed_dim).
        settings: Which measure comes first, and how much is shown.
        prompts: What the model is asked.
        benchmark: Its name.
        with_mean: Give the mean of top-1 and top-5 too, as Kinetics is reported.
    """
    right = truths(examples, len(prompts.class_names), benchmark)
    classes = class_vectors(subject, examples, [prompts.of(number) for number in range(len(prompts.class_names))])
    answers = answer(vectors, classes, right)
    found = _measured(answers, benchmark, settings, with_mean)
    keys = [examples.key(int(row)) for row in answers.rows]
    return Outcome(
        measures=[row for row, _ in found],
        scores={row.name: values.tolist() for row, values in found},
        keys=keys,
        classes=prompts.class_names,
        confusion=confusion(answers),
        examples=_mistakes(examples, answers, prompts, keys, settings.shown),
        notes=_notes(answers, examples, prompts, settings, benchmark),
        facts=_facts(answers, prompts, settings),
    )


def _measured(
    answers: Answers, benchmark: str, settings: ClassSettings, with_mean: bool
) -> list[tuple[Measure, Floats]]:
    """Return all measures, each with one value per example, the paper's first."""
    language = settings.language
    first, hits = top_measure(benchmark, language, 1, answers)
    found = {"top1": (first, hits.astype(float))}
    if answers.right.shape[1] > 5:
        fifth, near = top_measure(benchmark, language, 5, answers)
        found["top5"] = fifth, near.astype(float)
        both = (hits.astype(float) + near) / 2
        if with_mean or settings.metric == "top1_top5_mean":
            found["top1_top5_mean"] = _mean_of(first, fifth, both), both
    found["mean_class_recall"] = mean_recall_measure(benchmark, language, answers), class_recall_parts(answers)
    if settings.metric == "mean_ap" or (answers.right.sum(axis=1) > 1).any():
        found["mean_ap"] = mean_ap_measure(benchmark, language, answers), average_precision_parts(answers)
    if settings.metric not in found:
        raise ManifestError(
            f"{settings.metric} says nothing where there are {answers.right.shape[1]} classes; set `metric` of "
            f"{benchmark} to one of {', '.join(found)}"
        )
    return [found.pop(settings.metric), *found.values()]


def _mean_of(first: Measure, fifth: Measure, values: Floats) -> Measure:
    """Return the mean of top-1 and top-5 as a row, as Kinetics is reported."""
    chance, blind = [(getattr(first, name) + getattr(fifth, name)) / 2 for name in ("chance", "blind")]
    return measure(first.split, first.language, "top1_top5_mean", values, chance=chance, blind=[blind])


def _mistakes(
    examples: Examples, answers: Answers, prompts: Prompts, keys: Sequence[str], count: int
) -> list[Example]:
    found = []
    for row in nearest_mistakes(answers, keys, count):
        right = np.flatnonzero(answers.right[row])
        wrong = int(np.where(answers.right[row], -np.inf, answers.scores[row]).argmax())
        lines = [
            ("right", ", ".join(prompts.class_names[int(each)] for each in right)),
            ("nearest", prompts.class_names[wrong]),
            ("nearer by", f"{answers.margins[row]:.4f}"),
            ("example", keys[row]),
        ]
        picture = examples.pictures(int(answers.rows[row]))[0]
        found.append(Example("nearest mistakes", picture, lines, right=False))
    return found


def _notes(
    answers: Answers, examples: Examples, prompts: Prompts, settings: ClassSettings, benchmark: str
) -> list[str]:
    found = [prompts.note] if prompts.note else []
    if unlabelled := len(examples) - len(answers.rows):
        found.append(f"{unlabelled} of {len(examples)} examples have no right class and count nowhere.")
    if ties := int((answers.chosen < 0).sum()):
        found.append(f"{ties} examples have two nearest classes, which is no answer and counts as wrong.")
    if f" of {FALLBACK}" in prompts.templates_from and "imagenet" not in benchmark and not settings.prompts:
        found.append(
            f"{benchmark} has no published prompts of its own; those of {FALLBACK} are used, as CLIP_benchmark does."
        )
    if missing := int((answers.right.sum(axis=0) == 0).sum()):
        found.append(f"{missing} of {len(prompts.class_names)} classes have no example; they can still be answered.")
    return found


def _facts(answers: Answers, prompts: Prompts, settings: ClassSettings) -> dict[str, Any]:
    counts, hits = class_recalls(answers)
    return {
        "settings": settings.model_dump(mode="json"),
        "templates": list(prompts.templates),
        "templates_from": prompts.templates_from,
        "class_names_from": prompts.names_from,
        "per_class": [
            {"class": name, "n": int(n), "recall": float(hit / n) if n else None}
            for name, n, hit in zip(prompts.class_names, counts, hits, strict=True)
        ],
    }
