"""What a part's judging counted comes back from its file as it was, and the same counts give the same bytes."""

import numpy as np
import pytest
from random_rows import rows

from filters.base import Filter
from filters.cells import Counted
from filters.cube import cube_of
from filters.digits import judge_with_counts
from filters.policies import caption_quality, clean
from stages.judged_counts import counts_bytes, counts_of

POLICIES = {"light": clean().filters, "strict": caption_quality("coyo").filters, "none": ()}


def alike(one: Counted, other: Counted) -> bool:
    arrays = zip((*one.cells, one.fixed), (*other.cells, other.fixed), strict=True)
    return one[:4] == other[:4] and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("size", [0, 1, 300])
def test_counts_survive_their_file(name: str, size: int) -> None:
    filters: tuple[Filter, ...] = POLICIES[name]
    _, funnel, counted = judge_with_counts(filters, rows(5, size), size)
    data = counts_bytes(funnel, counted)
    again, read = counts_of(data)
    assert again == funnel and alike(read, counted) and cube_of(read) == cube_of(counted)
    assert cube_of(read).samples() == size == funnel.samples
    assert counts_bytes(again, read) == data


def test_a_difference_in_one_cell_is_seen() -> None:
    _, _, counted = judge_with_counts(POLICIES["light"], rows(5, 300), 300)
    more = counted.cells.rows.copy()
    more[0] += 1
    assert not alike(counted, counted._replace(cells=counted.cells._replace(rows=more)))
