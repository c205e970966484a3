"""How conversations are shared out over 8 processes: ours, the official buffers, and as they come, padded.

Nothing is timed: costs are those of a training step of InternVL2-2B, counted (`models.cost`), on the recorded mix.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from benchmarks.chat_lengths import Recorded, recorded
from models.config import ChatConfig
from models.cost import ConversationCost
from models.sizes import find_size
from stages.training.accumulating import Cutting
from stages.training.balancing import Load, Room
from stages.training.order import Order, Source

PROCESSES, STEPS, BATCHES = 8, 20, (64, 128, 256, 512)
TOKENS, TILES, BUFFERS = 16_384, 48, 20
"""Limits of a pack, and how many packs a process keeps open, in the official packing (arXiv:2412.05271)."""
PADDED_TOGETHER = 4
"""Conversations that are padded to the longest of them: as many of the longest as a pack has room for."""


class Shared(NamedTuple):
    """What one step came to."""

    costs: list[float]
    """Of each process."""
    computed: int
    """Places of tokens that are computed, padding among them."""
    read: int
    """Those that hold a token."""
    packs: int
    tiles: int

    @property
    def filled(self) -> float:
        """How full its packs are, in tokens or in tiles, whatever is tighter."""
        return max(self.read / (TOKENS * self.packs), self.tiles / (TILES * self.packs))


def model_cost() -> ConversationCost:
    """Return the cost of conversations in InternVL2-2B.

    Raises:
        RuntimeError: The catalogue has it not as a chat model.
    """
    size = find_size("InternVL2-2B")
    if size is None or size.vision is None or size.language is None:
        raise RuntimeError("InternVL2-2B is no chat model any more")
    return ConversationCost.of(
        ChatConfig(vision=size.vision, text=size.language.shape, image_context_token_id=0, eos_token_id=0)
    )


def balanced_steps(rows: Sequence[Recorded], cost: ConversationCost, batch: int) -> Iterator[Shared]:
    """Yield steps as our loop shares them out."""
    loads = [Load(cost(each.tokens, each.tiles, each.learned), each.tokens, each.tiles) for each in rows]
    order = Order(0, [Source("recorded", (len(rows),))])
    cutting = Cutting(PROCESSES, room=Room(TOKENS, TILES), load=loads.__getitem__)
    for step in range(STEPS):
        shares = [cutting.micro_batches(order.rows(step, batch), rank) for rank in range(PROCESSES)]
        taken = [[loads[row] for pack in share for row in pack] for share in shares]
        read, tiles = (sum(getattr(load, name) for own in taken for load in own) for name in ("tokens", "tiles"))
        costs = [float(sum(load.cost for load in own)) for own in taken]
        yield Shared(costs, read, read, sum(map(len, shares)), tiles)


def contiguous_steps(rows: Sequence[Recorded], cost: ConversationCost, batch: int) -> Iterator[Shared]:
    """Yield steps cut as they come, each few conversations padded to the longest of them."""
    order = Order(0, [Source("recorded", (len(rows),))])
    for step in range(STEPS):
        costs, computed, read, packs, tiles = [], 0, 0, 0, 0
        for rank in range(PROCESSES):
            own = 0
            for piece in Cutting(PROCESSES, PADDED_TOGETHER).micro_batches(order.rows(step, batch), rank):
                longest = max(rows[row].tokens for row in piece)
                own += sum(cost(longest, rows[row].tiles, rows[row].learned) for row in piece)
                computed += longest * len(piece)
                read += sum(rows[row].tokens for row in piece)
                packs, tiles = packs + 1, tiles + sum(rows[row].tiles for row in piece)
            costs.append(float(own))
        yield Shared(costs, computed, read, packs, tiles)


def official_packs(rows: Iterator[Recorded]) -> Iterator[list[Recorded]]:
    """Yield the packs of one process as the official loader makes them.

    A row goes to the first open pack with room, packs with most tiles first; a pack leaves when it is exactly full,
    and the oldest when too many are open.
    """
    opened: list[list[Recorded]] = []
    for row in rows:
        fits = (
            pack
            for pack in sorted(opened, key=lambda pack: -sum(each.tiles for each in pack))
            if sum(each.tokens for each in pack) + row.tokens <= TOKENS
            and sum(each.tiles for each in pack) + row.tiles <= TILES
        )
        pack = next(fits, None)
        if pack is None:
            pack = []
            opened.append(pack)
        pack.append(row)
        if sum(each.tokens for each in pack) == TOKENS or sum(each.tiles for each in pack) == TILES:
            opened = [each for each in opened if each is not pack]
            yield pack
        elif len(opened) > BUFFERS:
            yield opened.pop(0)


def official_steps(rows: Sequence[Recorded], cost: ConversationCost, packs: int) -> Iterator[Shared]:
    """Yield steps of so many official packs on each process."""
    order = Order(0, [Source("recorded", (len(rows),))])

    def own(rank: int) -> Iterator[Recorded]:
        place = rank
        while True:
            yield rows[order.row(place)]
            place += PROCESSES

    streams = [official_packs(own(rank)) for rank in range(PROCESSES)]
    for _ in range(STEPS):
        made = [list(islice(stream, packs)) for stream in streams]
        taken = [[each for pack in share for each in pack] for share in made]
        read, tiles = (sum(getattr(each, name) for own in taken for each in own) for name in ("tokens", "tiles"))
        costs = [float(sum(cost(each.tokens, each.tiles, each.learned) for each in own)) for own in taken]
        yield Shared(costs, read, read, PROCESSES * packs, tiles)


def told(steps: Sequence[Shared]) -> dict[str, float]:
    """Return what steps came to: stragglers as the slowest process over the mean, and shares of places and packs.

    Packs that are not full lose no time where they have no fixed shape.
    """
    stragglers = [max(each.costs) / float(np.mean(each.costs)) for each in steps]
    return {
        "straggler_mean": round(float(np.mean(stragglers)), 4),
        "straggler_worst": round(max(stragglers), 4),
        "computed_places_used": round(sum(each.read for each in steps) / sum(each.computed for each in steps), 4),
        "packs_filled": round(float(np.mean([each.filled for each in steps])), 4),
    }


def measure() -> dict[str, Any]:
    """Return by way and conversations per step what `told` says; the official way counts its step in packs."""
    rows, cost = recorded(), model_cost()
    found: dict[str, Any] = {}
    for batch in BATCHES:
        found[f"ours, {batch} conversations"] = told(list(balanced_steps(rows, cost, batch)))
        found[f"as they come and padded, {batch} conversations"] = told(list(contiguous_steps(rows, cost, batch)))
    for packs in (1, 4):
        found[f"official buffers, {packs * PROCESSES} packs"] = told(list(official_steps(rows, cost, packs)))
    return found
