"""The published numbers of question benchmarks, from how right each answer is."""

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stages.evaluation_metrics import Floats
from stages.evaluations import answers as rules
from stages.evaluations.base import Question
from stages.evaluations.composed import Number, mean_number
from stages.evaluations.dialogue_kinds import KINDS, KindName

COGNITION = frozenset(["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"])
"""MME's subtasks that are no perception (arXiv:2306.13394, section 2.1)."""
_BALANCED = frozenset(["relaxed", "box"])
"""Published as the mean over their parts: ChartQA's human and augmented questions, RefCOCO's eight splits."""
_POPE = ("f1", "accuracy", "precision", "recall", "yes_share")


def numbers(
    kind: KindName, asked: Sequence[Question], said: Sequence[str | None], hits: Floats, groups: Sequence[str]
) -> list[Number]:
    """Return a benchmark's numbers, the published one first.

    Args:
        kind: Its family.
        asked: The questions.
        said: Their answers; None where the question could not be put, which counts as wrong.
        hits: How right each is.
        groups: A name of each question's picture: what is resampled are pictures, each with all of its questions.
    """
    categories = [question.category for question in asked]
    if kind == "pope":
        return _pope(asked, said, categories, groups)
    if kind == "mme":
        return _mme(hits, categories, groups)
    return _accuracy(KINDS[kind].metric, hits, categories, groups, balanced=kind in _BALANCED)


def slug(category: str) -> str:
    """Return a category as part of a measure's name."""
    return re.sub(r"\W+", "_", category.lower()).strip("_")


def _each(categories: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield categories with the numbers of what is of them; nothing where there is only one."""
    names = sorted(set(categories))
    for name in names if len(names) > 1 else ():
        yield slug(name), [number for number, category in enumerate(categories) if category == name]


def _members(categories: Sequence[str]) -> Floats:
    """Return 1 where something is of a category, shape (categories' items, distinct categories in order)."""
    names = sorted(set(categories))
    return np.array([[float(category == name) for name in names] for category in categories])


def _spread(member: Floats, columns: Floats) -> Floats:
    """Return columns of each category in turn, 0 where an item is of another, shape (items, categories * columns)."""
    return (member[:, :, None] * columns[:, None]).reshape(len(member), -1)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return quotients, nan where nothing is below: a resample may hold nothing of a category."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0))


def _over_categories(values: Floats) -> Floats:
    """Return the mean over categories of which there is something, shape (..., categories) to (...)."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64))


def _accuracy(
    metric: str, hits: Floats, categories: Sequence[str], groups: Sequence[str], balanced: bool
) -> list[Number]:
    """Return the mean, or where `balanced` the mean over categories, and that of each category."""
    each = [
        mean_number(f"{metric}_{name}", hits[rows], [groups[row] for row in rows])._replace(scores=None)
        for name, rows in _each(categories)
    ]
    if not balanced:
        return [mean_number(metric, hits, groups), *each]
    member = _members(categories)
    count = member.shape[1]
    weights = (member / member.sum(axis=0)).sum(axis=1) * len(hits) / count

    def of(means: Floats) -> Floats:
        table = means.reshape(*means.shape[:-1], count, 2)
        return _over_categories(_ratio(table[..., 1], table[..., 0]))

    parts = _spread(member, np.stack([np.ones_like(hits), hits], axis=1))
    return [Number(metric, parts, of, hits * weights, groups=groups), *each]


def _pope(
    asked: Sequence[Question], said: Sequence[str | None], categories: Sequence[str], groups: Sequence[str]
) -> list[Number]:
    """Return POPE's five numbers as means over its splits, F1 first, and for each split."""
    right = np.array([rules.yes_or_no(question.answers[0]) == "yes" for question in asked])
    # POPE takes silence for a yes, but who was not asked was not silent.
    yes = np.array(
        [not truth if answer is None else not rules.denies(answer) for answer, truth in zip(said, right, strict=True)]
    )
    # True and false positives, then what was missed and what was rightly denied.
    cells = np.stack([yes & right, yes & ~right, ~yes & right, ~yes & ~right], axis=1).astype(np.float64)
    member = _members(categories)
    splits, parts = member.shape[1], _spread(member, cells)

    def whole(name: str) -> Callable[[Floats], Floats]:
        return lambda means: _over_categories(_of_cells(name, means.reshape(*means.shape[:-1], splits, 4)))

    def one(name: str) -> Callable[[Floats], Floats]:
        return lambda means: _of_cells(name, means)

    found = [Number(name, parts, whole(name), _shares(member, *_terms(name, cells)), groups=groups) for name in _POPE]
    for split, rows in _each(categories):
        pictures = [groups[row] for row in rows]
        found += [Number(f"{name}_{split}", cells[rows], one(name), groups=pictures) for name in _POPE]
    return found


def _shares(member: Floats, above: Floats, below: Floats) -> Floats:
    """Return what each example adds to the mean over categories of sum(above) / sum(below), shape (examples,).

    Their mean is that number. Where `below` is not 1 everywhere, what an example adds is so to first order: the
    number's influence function (Davison and Hinkley, 1997, "Bootstrap methods", section 2.7).

    Args:
        member: Which category each example is of, shape (examples, categories).
        above: Shape (examples,).
        below: Same shape; a category without any counts as 0.
    """
    tops, bottoms = member.T @ above, member.T @ below
    ratios = np.nan_to_num(_ratio(tops, bottoms))
    left = member * (above[:, None] - ratios * below[:, None]) / np.where(bottoms > 0, bottoms, 1)
    return np.asarray(ratios.mean() + left.sum(axis=1) * len(member) / member.shape[1])


def _of_cells(name: str, cells: Floats) -> Floats:
    """Return one of POPE's numbers from shares of true and false positives and negatives, shape (..., 4).

    Without any positive, precision and F1 are 0; without any question they are nan.
    """
    above, below = _terms(name, cells)
    return np.asarray(np.where(cells.sum(axis=-1) > 0, np.nan_to_num(_ratio(above, below)), np.nan))


def _terms(name: str, cells: Floats) -> tuple[Floats, Floats]:
    """Return what is divided by what, each of shape (...), from true and false positives and negatives (..., 4)."""
    hit, false, missed, rejected = (cells[..., place] for place in range(4))
    return {
        "f1": (2 * hit, 2 * hit + false + missed),
        "precision": (hit, hit + false),
        "recall": (hit, hit + missed),
        "accuracy": (hit + rejected, cells.sum(axis=-1)),
        "yes_share": (hit + false, cells.sum(axis=-1)),
    }[name]


def _mme(hits: Floats, categories: Sequence[str], groups: Sequence[str]) -> list[Number]:
    """Return MME's sums, perception first, and accuracy and accuracy+ of each subtask.

    Accuracy+ is the share of pictures both of whose questions are answered rightly; a subtask gives up to 200 points.
    What is resampled are pictures, because the two questions of one belong together.
    """
    pictures = list(dict.fromkeys(zip(categories, groups, strict=True)))
    place = {picture: number for number, picture in enumerate(pictures)}
    of_picture = np.array([place[each] for each in zip(categories, groups, strict=True)])
    asked = np.bincount(of_picture, minlength=len(pictures)).astype(np.float64)
    right = np.bincount(of_picture, weights=hits, minlength=len(pictures))
    both = (right == asked).astype(np.float64)
    columns = np.stack([asked, right, np.ones_like(asked), both], axis=1)
    subtasks = [category for category, _ in pictures]
    member = _members(subtasks)
    # What a question adds to the sum, times the number of questions: the mean of these is the sum.
    weights = 100 * len(hits) / (member @ (member.T @ columns[:, [0, 2]]))
    each = (weights[:, 0] * right + weights[:, 1] * both) / asked
    found = []
    for name, wanted in (("mme_score", False), ("mme_score_cognition", True)):
        rows = [number for number, task in enumerate(subtasks) if (slug(task) in COGNITION) == wanted]
        if rows:
            inside = np.isin(np.arange(len(pictures)), rows)
            parts = _spread(_members([subtasks[number] for number in rows]), columns[rows])
            most = 200.0 * len({subtasks[number] for number in rows})
            found.append(Number(name, parts, _points, (each * inside)[of_picture], "points", most=most))
    for subtask in sorted(set(subtasks)):
        of_it = columns[[number for number, task in enumerate(subtasks) if task == subtask]]
        found.append(Number(f"accuracy_{slug(subtask)}", of_it, lambda means: _ratio(means[..., 1], means[..., 0])))
        found.append(
            Number(f"accuracy_plus_{slug(subtask)}", of_it, lambda means: _ratio(means[..., 3], means[..., 2]))
        )
    return found


def _points(means: Floats) -> Floats:
    """Return MME's sum from questions, right ones, pictures and wholly right ones of each subtask in turn.

    It is nan where a subtask has no question: a sum without it is another benchmark's.
    """
    table = means.reshape(*means.shape[:-1], -1, 4)
    shares = _ratio(table[..., 1], table[..., 0]) + _ratio(table[..., 3], table[..., 2])
    return np.asarray(100 * shares.sum(axis=-1))
