"""The families of question benchmarks: how one asks, when an answer is right, and what the numbers are made of."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stages.evaluation_metrics import Floats
from stages.evaluations import answers as rules
from stages.evaluations.base import Question
from stages.evaluations.composed import Number, mean_number

KindName = Literal["vqa", "exact", "relaxed", "anls", "contains", "choice", "box", "pope", "mme"]
WORD = "{question}\nAnswer the question using a single word or phrase."
LETTER = "{question}\nAnswer with the option's letter from the given choices directly."
REGION = "Please provide the bounding box coordinate of the region this sentence describes: <ref>{question}</ref>"
COGNITION = frozenset(["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"])
"""MME's subtasks that are no perception (arXiv:2306.13394, section 2.1)."""


class Kind(NamedTuple):
    """One family. Prompts and most tokens are the paper's (arXiv:2312.14238, section 4.4 and its released code)."""

    metric: str
    prompt: str
    max_new_tokens: int
    right: Callable[[str, Question], float]
    """How right an answer is, in [0, 1]."""


def _contains(answer: str, question: Question) -> float:
    # OCRBench compares formulas without spaces, and calls their category "Handwritten Mathematical Expression ...".
    formula = "mathematical expression" in question.category.lower()
    return rules.contains(answer, question.answers, spaces=not formula)


def _polar(says: Callable[[str], str]) -> Callable[[str, Question], float]:
    return lambda answer, question: float(says(answer) == rules.yes_or_no(question.answers[0]))


KINDS: dict[KindName, Kind] = {
    "vqa": Kind("vqa_accuracy", WORD, 10, lambda said, asked: rules.vqa_accuracy(said, asked.answers)),
    "exact": Kind("exact_match", WORD, 10, lambda said, asked: rules.exact_match(said, asked.answers)),
    "relaxed": Kind("relaxed_accuracy", WORD, 100, lambda said, asked: rules.relaxed_accuracy(said, asked.answers)),
    "anls": Kind("anls", WORD, 100, lambda said, asked: rules.anls(said, asked.answers)),
    "contains": Kind("accuracy", WORD, 100, _contains),
    "choice": Kind(
        "accuracy", LETTER, 10, lambda said, asked: float(rules.chosen(said, asked.options) == asked.answers[0])
    ),
    "box": Kind("accuracy", REGION, 100, lambda said, asked: rules.box_hit(said, asked.answers)),
    "pope": Kind("f1", WORD, 10, _polar(lambda said: "no" if rules.denies(said) else "yes")),
    "mme": Kind("mme_score", WORD, 10, _polar(rules.yes_or_no)),
}


def numbers(
    kind: KindName, asked: Sequence[Question], said: Sequence[str], hits: Floats, groups: Sequence[str]
) -> list[Number]:
    """Return a benchmark's numbers, the published one first.

    Args:
        kind: Its family.
        asked: The questions.
        said: Their answers.
        hits: How right each is.
        groups: A name of each question's picture.
    """
    categories = [question.category for question in asked]
    if kind == "pope":
        return _pope(asked, said, categories)
    if kind == "mme":
        return _mme(hits, categories, groups)
    return _accuracy(KINDS[kind].metric, hits, categories, balanced=kind == "relaxed")


def slug(category: str) -> str:
    """Return a category as part of a measure's name."""
    return re.sub(r"\W+", "_", category.lower()).strip("_")


def _accuracy(metric: str, hits: Floats, categories: Sequence[str], balanced: bool) -> list[Number]:
    """Return the mean, or where `balanced` the mean over categories (ChartQA's human and augmented), and each one."""
    names = sorted(set(categories))
    if len(names) == 1:
        return [mean_number(metric, hits)]
    member = _members(categories, names)
    columns = np.concatenate([member, member * hits[:, None]], axis=1)

    def of_category(number: int) -> Callable[[Floats], Floats]:
        return lambda means: _ratio(means[..., len(names) + number], means[..., number])

    each = [Number(f"{metric}_{slug(name)}", columns, of_category(place)) for place, name in enumerate(names)]
    if not balanced:
        return [mean_number(metric, hits), *each]
    weights = (member / member.sum(axis=0)).sum(axis=1) * len(hits) / len(names)
    whole = Number(
        metric,
        columns,
        lambda means: _over_categories(_ratio(means[..., len(names) :], means[..., : len(names)])),
        hits * weights,
    )
    return [whole, *each]


def _members(categories: Sequence[str], names: Sequence[str]) -> Floats:
    """Return 1 where a question is of a category, shape (questions, categories)."""
    return np.array([[float(category == name) for name in names] for category in categories])


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return quotients, nan where nothing is below: a resample may hold nothing of a category."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0))


def _over_categories(values: Floats) -> Floats:
    """Return the mean over categories of which there is something, shape (..., categories) to (...)."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64))


_POPE = ("accuracy", "precision", "recall", "f1", "yes_share")


def _pope(asked: Sequence[Question], said: Sequence[str], categories: Sequence[str]) -> list[Number]:
    """Return POPE's five numbers as means over its splits, F1 first, and for each split."""
    yes = np.array([not rules.denies(answer) for answer in said])
    right = np.array([rules.yes_or_no(question.answers[0]) == "yes" for question in asked])
    # True and false positives and negatives, for each split in turn.
    cells = np.stack([yes & right, yes & ~right, ~yes & right, ~yes & ~right], axis=1).astype(np.float64)
    names = sorted(set(categories))
    parts = (_members(categories, names)[:, :, None] * cells[:, None]).reshape(len(said), -1)

    def of(name: str, split: int | None) -> Callable[[Floats], Floats]:
        def found(means: Floats) -> Floats:
            table = means.reshape(*means.shape[:-1], len(names), 4)
            each = _of_cells(name, table if split is None else table[..., split : split + 1, :])
            return _over_categories(each)

        return found

    order = ("f1", *(name for name in _POPE if name != "f1"))
    found = [Number(name, parts, of(name, None)) for name in order]
    hits = (yes == right).astype(np.float64)
    found = [each._replace(scores=hits) if each.name == "accuracy" and len(names) == 1 else each for each in found]
    if len(names) > 1:
        found += [
            Number(f"{name}_{slug(split)}", parts, of(name, number))
            for number, split in enumerate(names)
            for name in order
        ]
    return found


def _of_cells(name: str, cells: Floats) -> Floats:
    """Return one of POPE's numbers from shares of true and false positives and negatives, shape (..., 4).

    Without any positive, precision and F1 are 0; without any question they are nan.
    """
    hit, false, missed, rejected = (cells[..., place] for place in range(4))
    above, below = {
        "f1": (2 * hit, 2 * hit + false + missed),
        "precision": (hit, hit + false),
        "recall": (hit, hit + missed),
        "accuracy": (hit + rejected, cells.sum(axis=-1)),
        "yes_share": (hit + false, cells.sum(axis=-1)),
    }[name]
    return np.asarray(np.where(cells.sum(axis=-1) > 0, np.nan_to_num(_ratio(above, below)), np.nan))


def _mme(hits: Floats, categories: Sequence[str], groups: Sequence[str]) -> list[Number]:
    """Return MME's sums, perception first, and accuracy and accuracy+ of each subtask.

    Accuracy+ is the share of pictures both of whose questions are answered rightly; a subtask gives up to 200 points.
    What is resampled are pictures, because the two questions of one belong together.
    """
    names = sorted(set(categories))
    pictures = list(dict.fromkeys(zip(categories, groups, strict=True)))
    place = {picture: number for number, picture in enumerate(pictures)}
    of_picture = np.array([place[each] for each in zip(categories, groups, strict=True)])
    asked = np.bincount(of_picture, minlength=len(pictures)).astype(np.float64)
    right = np.bincount(of_picture, weights=hits, minlength=len(pictures))
    both = (right == asked).astype(np.float64)
    member = _members([category for category, _ in pictures], names)
    # For each subtask: questions, right ones, pictures, wholly right ones.
    parts = (member[:, :, None] * np.stack([asked, right, np.ones_like(asked), both], axis=1)[:, None]).reshape(
        len(pictures), -1
    )

    def shares(means: Floats) -> tuple[Floats, Floats]:
        table = means.reshape(*means.shape[:-1], len(names), 4)
        return _ratio(table[..., 1], table[..., 0]), _ratio(table[..., 3], table[..., 2])

    def points(places: list[int]) -> Callable[[Floats], Floats]:
        return lambda means: np.asarray(100 * np.nansum(np.add(*shares(means))[..., places], axis=-1))

    def share(which: int, number: int) -> Callable[[Floats], Floats]:
        return lambda means: shares(means)[which][..., number]

    # What a question adds to the sum, times the number of questions: the mean of these is the sum.
    weights = 100 * len(hits) / (member @ (member.T @ np.stack([asked, np.ones_like(asked)], axis=1)))
    each = (weights[:, 0] * right + weights[:, 1] * both) / asked
    found = []
    for name, wanted in (("mme_score", False), ("mme_score_cognition", True)):
        places = [number for number, each in enumerate(names) if (slug(each) in COGNITION) == wanted]
        if places:
            within = member[:, places].sum(axis=1)
            found.append(Number(name, parts, points(places), (each * within)[of_picture], "points"))
    for number, name in enumerate(names):
        found.append(Number(f"accuracy_{slug(name)}", parts, share(0, number)))
        found.append(Number(f"accuracy_plus_{slug(name)}", parts, share(1, number)))
    return found
