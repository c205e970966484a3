"""Cutting a step over processes and micro batches, and what is refused before anything starts."""

import pytest

from stages.manifest import ManifestError
from stages.training.accumulating import check, cut
from stages.workspace import Placement


def test_a_share_is_cut_without_gap_or_overlap() -> None:
    share = list(range(12))
    for size in (1, 2, 3, 4, 6, 12):
        pieces = cut(share, size)
        assert [row for piece in pieces for row in piece] == share
        assert {len(piece) for piece in pieces} == {size}
    assert cut(share, None) == [share]


def test_what_does_not_divide_names_what_would() -> None:
    with pytest.raises(ManifestError, match=r"12 samples .* micro batches of 5; choose .* of 2, 3, 4, 6"):
        cut(list(range(12)), 5)
    with pytest.raises(ManifestError, match="choose a micro_batch_size of 1"):
        cut([1, 2, 3], 2)


def test_every_number_of_workers_in_a_range_must_fit() -> None:
    check(Placement(workers=4, min_workers=3, micro_batch_size=2), 24)
    with pytest.raises(ManifestError, match="there may be 3, and global_batch_size 16 does not divide"):
        check(Placement(workers=4, min_workers=2), 16)
    with pytest.raises(ManifestError, match="do not divide into micro batches of 4"):
        check(Placement(workers=4, min_workers=3, micro_batch_size=4), 24)
    check(Placement(workers=3), 16)  # a fixed gang is refused by its first step, on all processes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sharding": "zero9"}, "sharding 'zero9' is unknown; choose one of ddp, fsdp2"),
        ({"workers": 2, "min_workers": 3}, "min_workers 3 must lie between 1 and workers"),
        ({"workers": 0}, "must lie between 1 and workers"),
        ({"micro_batch_size": 0}, "micro_batch_size 0 must be at least 1"),
        ({"collective_timeout_seconds": 0}, "must be above 0"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        Placement(**given)  # type: ignore[arg-type]
