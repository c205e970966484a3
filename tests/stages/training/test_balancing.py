"""Rows of a step are shared out by what they cost: all of them once, within limits, and nobody waits."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.config import INTERN_VIT_300M_448, ChatConfig
from models.cost import ConversationCost
from models.sizes import find_size
from stages.manifest import ManifestError
from stages.training.accumulating import Cutting
from stages.training.balancing import Load, Room, balanced
from stages.training.order import Order, Source
from stages.workspace import Placement

RECORDED = Path(__file__).parents[2] / "golden" / "chat_lengths.json"
PACK = Room(tokens=16_384, tiles=48)
"""As InternVL 2.5 packs (arXiv:2412.05271)."""
BATCH, PROCESSES, STEPS = 256, 8, 6


def recorded() -> list[Load]:
    """Return what real conversations take of the model of two billion parameters."""
    language = find_size("InternVL2-2B").language
    assert language is not None
    config = ChatConfig(vision=INTERN_VIT_300M_448, text=language.shape, image_context_token_id=0, eos_token_id=0)
    cost, per_tile = ConversationCost.of(config), config.num_image_token
    assert per_tile == 256
    sizes = [(text + per_tile * tiles, tiles, learned) for text, learned, tiles in json.loads(RECORDED.read_text())]
    return [Load(cost(*size), size[0], size[1]) for size in sizes]


LOADS = recorded()
ORDER = Order(7, [Source("recorded", (len(LOADS),))])


def spread(cutting: Cutting, step: int) -> list[list[list[int]]]:
    """Return the rows of a step by process and micro batch, each process asking for itself."""
    rows = ORDER.rows(step, BATCH)
    return [cutting.micro_batches(rows, rank) for rank in range(cutting.processes)]


def straggler(shares: Sequence[Sequence[Sequence[int]]]) -> float:
    """Return by how much the slowest process is slower than the mean."""
    costs = [sum(LOADS[row].cost for pack in share for row in pack) for share in shares]
    return float(max(costs) / np.mean(costs))


def test_no_process_is_5_percent_slower_than_the_mean_on_a_recorded_mix() -> None:
    packed = [straggler(spread(Cutting(PROCESSES, room=PACK, load=LOADS.__getitem__), step)) for step in range(STEPS)]
    contiguous = [straggler(spread(Cutting(PROCESSES), step)) for step in range(STEPS)]
    assert max(packed) < 1.05 < min(contiguous), (packed, contiguous)


def test_packs_computed_at_the_same_time_cost_alike() -> None:
    for step in range(STEPS):
        shares = spread(Cutting(PROCESSES, room=PACK, load=LOADS.__getitem__), step)
        assert len({len(share) for share in shares}) == 1, "shards are gathered by all, pack by pack"
        costs = np.array([[sum(LOADS[row].cost for row in pack) for pack in share] for share in shares])
        assert costs.max(axis=0).sum() < 1.05 * costs.mean(axis=0).sum()


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("room", [Room(), PACK, Room(tokens=4_096), Room(tiles=13)])
def test_every_row_comes_once_and_packs_keep_their_limits(processes: int, size: int | None, room: Room) -> None:
    for step in range(2):
        shares = spread(Cutting(processes, size, room, LOADS.__getitem__), step)
        packs = [pack for share in shares for pack in share]
        assert sorted(row for pack in packs for row in pack) == sorted(ORDER.rows(step, BATCH))
        assert all(pack for pack in packs)
        for pack in packs:
            assert room.holds(sum(LOADS[row].tokens for row in pack), sum(LOADS[row].tiles for row in pack))
        assert len(packs) >= BATCH // (size or BATCH)


def test_packs_are_as_few_as_their_limits_allow() -> None:
    for step in range(STEPS):
        share = spread(Cutting(PROCESSES, room=PACK, load=LOADS.__getitem__), step)[0]
        rows = ORDER.rows(step, BATCH)
        tokens, tiles = (sum(each) for each in zip(*(LOADS[row][1:] for row in rows), strict=True))
        assert len(share) == max(-(-tokens // (16_384 * PROCESSES)), -(-tiles // (48 * PROCESSES)))


def test_one_process_without_limits_computes_all_rows_in_their_order() -> None:
    rows = ORDER.rows(3, BATCH)
    assert Cutting(load=LOADS.__getitem__).micro_batches(rows, 0) == [rows]


def test_few_rows_of_unlike_cost_are_balanced_as_well_as_can_be() -> None:
    loads = [Load(cost) for cost in (9, 1, 1, 8, 1, 7, 1, 6)]
    assert balanced(loads, 2) == [[[0, 1, 4, 7]], [[2, 3, 5, 6]]], "17 of 34 each"
    # Turns go back and forth: who has the dearest of the first packs has the cheapest of the second.
    assert balanced([Load(4), Load(3), Load(2), Load(1)], 2, least=2) == [[[0], [3]], [[1], [2]]]


def test_rows_without_cost_leave_no_pack_empty() -> None:
    assert balanced([Load(0)] * 4, 2, least=2) == [[[0], [3]], [[1], [2]]]


def test_where_costs_fit_and_sizes_do_not_there_is_one_pack_more() -> None:
    # Two packs would hold 12 tokens of 12, but the dearest first leaves no pack with 4 free.
    loads = [Load(9, 3), Load(8, 3), Load(7, 2), Load(1, 4)]
    assert balanced(loads, 1, room=Room(tokens=6)) == [[[0], [1], [2, 3]]]


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"row 1 takes 9 tokens and 2 tiles; a pack is Room\(tokens=8, tiles=None\)"):
        balanced([Load(1, 3, 1), Load(1, 9, 2)], 1, room=Room(tokens=8))
    with pytest.raises(ValueError, match="3 rows for 2 processes with 2 packs each"):
        balanced([Load(1)] * 3, 2, least=2)
    with pytest.raises(ManifestError, match="stages that weigh their samples"):
        Cutting(room=Room(tiles=4))
    for name in ("max_packed_tokens", "max_packed_tiles"):
        with pytest.raises(ManifestError, match=f"{name} 0 must be at least 1"):
            Placement(**{name: 0})  # type: ignore[arg-type]
