"""Standings: by hand, in blocks of any size, and dual softmax equal to its definition."""

import numpy as np
import pytest
import torch

from stages.evaluation_metrics import Bools, Floats, recall
from stages.evaluations.embedding import unit
from stages.evaluations.ranking import Ints, standings


def diagonal(rows: Ints, width: int) -> Bools:
    return np.asarray(rows[:, None] == np.arange(width))


def test_rivals_and_margins_by_hand() -> None:
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    candidates = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = standings(queries, candidates, lambda rows: diagonal(rows, 3))
    # Scores: 1, .6, 0 / 0, .8, 1 / .6, 1, .8.
    assert found.before.tolist() == [0, 1, 1]
    assert found.rivals.tolist() == [1, 2, 1]
    assert found.margins.tolist() == pytest.approx([-0.4, 0.2, 0.2])
    twice = standings(queries, candidates, lambda rows: diagonal(rows, 3), copies=[1, 5, 1])
    assert twice.before.tolist() == [0, 1, 5]


@pytest.mark.parametrize("dual_softmax", [False, True])
def test_the_size_of_blocks_changes_nothing(dual_softmax: bool) -> None:
    rng = np.random.default_rng(0)
    queries, candidates = unit(rng.normal(size=(53, 64))), unit(rng.normal(size=(53, 64)))
    candidates[7] = candidates[8]
    whole = standings(queries, candidates, lambda rows: diagonal(rows, 53), dual_softmax=dual_softmax)
    for block in (1, 2, 10, 52):
        parts = standings(
            queries, candidates, lambda rows: diagonal(rows, 53), dual_softmax=dual_softmax, block=block
        )
        assert (parts.before == whole.before).all() and (parts.rivals == whole.rivals).all()
        assert parts.margins == pytest.approx(whole.margins, abs=1e-9)
    assert whole.margins[7] >= 0 and whole.margins[8] >= 0


def test_standings_agree_with_recall_of_the_whole_table() -> None:
    rng = np.random.default_rng(1)
    queries, candidates = unit(rng.normal(size=(40, 8))), unit(rng.normal(size=(90, 8)))
    right = rng.random((40, 90)) < 0.05
    right[:, 3] = True
    found = standings(queries, candidates, lambda rows: right[rows], block=7)
    for k in (1, 5, 10):
        assert (recall(queries @ candidates.T, right, k) == (found.before < k)).all()


def hits_of_released_script(scores: torch.Tensor, k: int) -> Floats:
    """Return recall of the diagonal after scores were weighed by their columns' softmax."""
    weighed = scores * scores.softmax(dim=0)
    best = weighed.topk(k, dim=1).indices
    return (best == torch.arange(len(scores))[:, None]).any(dim=1).numpy()


def test_dual_softmax_is_that_of_the_released_script() -> None:
    rng = np.random.default_rng(2)
    texts = unit(rng.normal(size=(60, 16)))
    videos = unit(texts + 0.4 * rng.normal(size=(60, 16)))
    scores = torch.from_numpy(texts @ videos.T)
    for queries, candidates, table in ((texts, videos, scores), (videos, texts, scores.T)):
        found = standings(queries, candidates, lambda rows: diagonal(rows, 60), dual_softmax=True, block=11)
        for k in (1, 5, 10):
            assert ((found.before < k) == hits_of_released_script(table, k)).all()
    plain = standings(texts, videos, lambda rows: diagonal(rows, 60))
    weighed = standings(texts, videos, lambda rows: diagonal(rows, 60), dual_softmax=True)
    assert (plain.before != weighed.before).any()


def test_equal_candidates_stand_before_the_right_one() -> None:
    queries = unit(np.random.default_rng(3).normal(size=(1, 768)))
    same = np.repeat(unit(np.ones((1, 768))), 41, axis=0)
    for dual_softmax in (False, True):
        found = standings(
            np.repeat(queries, 41, axis=0), same, lambda rows: diagonal(rows, 41), dual_softmax=dual_softmax
        )
        assert (found.before == 40).all() and (found.margins == 0).all()
