"""How far up the right candidate stands for each query, computed a block of queries at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.evaluation_metrics import Bools, Floats
from stages.evaluations.classifying import DIGITS, best

SCORES_AT_ONCE = 1 << 24
"""Of one block, 128 MB; 5,000 pictures against 25,000 captions are 1 GB."""

Ints = npt.NDArray[np.int64]


class Standings(NamedTuple):
    """One row per query, all of shape (queries,)."""

    before: Ints
    """How many wrong candidates are at least as good as the best right one."""
    rivals: Ints
    """The best wrong candidate."""
    margins: Floats
    """How far the rival stands above the best right one; below 0 is a hit."""


def standings(
    queries: Floats,
    candidates: Floats,
    right_of: Callable[[Ints], Bools],
    *,
    copies: npt.ArrayLike = 1,
    dual_softmax: bool = False,
    block: int | None = None,
) -> Standings:
    """Rank all candidates for each query by their dot product.

    A wrong candidate that is as good as the best right one stands before it, so that equal scores never count as
    knowledge.

    Args:
        queries: Shape (queries, width).
        candidates: Shape (candidates, width).
        right_of: Returns which candidates are right for some queries, shape (queries asked for, candidates).
        copies: How many of each candidate there are, shape (candidates,).
        dual_softmax: Weigh each score by how much of a candidate's softmax over all queries it has
            (arXiv:2109.04290): a candidate that is near to every query counts less for each.
        block: Queries at once; as many as `SCORES_AT_ONCE` allows when left out. It changes no result.
    """
    step = block or max(1, SCORES_AT_ONCE // len(candidates))
    totals = _softmax_totals(queries, candidates, step) if dual_softmax else None
    found = []
    for rows, scores in _blocks(queries, candidates, step):
        if totals is not None:
            scores = np.round(scores * np.exp(scores) / totals, DIGITS + 4)
        right = right_of(rows)
        own = best(scores, right)
        before = ((~right & (scores >= own[:, None])) * np.asarray(copies)).sum(axis=1)
        wrong = np.where(right, -np.inf, scores)
        found.append((before, wrong.argmax(axis=1), wrong.max(axis=1) - own))
    before, rivals, margins = (np.concatenate(each) for each in zip(*found, strict=True))
    return Standings(before, rivals, margins)


def _blocks(queries: Floats, candidates: Floats, step: int) -> Iterator[tuple[Ints, Floats]]:
    """Yield numbers of queries and their scores, rounded so that equal vectors have equal ones."""
    for start in range(0, len(queries), step):
        rows = np.arange(start, min(start + step, len(queries)))
        yield rows, np.round(queries[rows] @ candidates.T, DIGITS)


def _softmax_totals(queries: Floats, candidates: Floats, step: int) -> Floats:
    """Return what a softmax over all queries divides by, shape (candidates,); cosines need no care for overflow."""
    return sum((np.exp(scores).sum(axis=0) for _, scores in _blocks(queries, candidates, step)), np.zeros(1))
