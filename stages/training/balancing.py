"""Which rows of a step are computed together and by whom, so that nobody waits for the longest conversation.

A step has as many packs on each process as fit their rows into memory. Rows go to packs by what they cost: the most
costly first, each to the pack with the least so far that has room (Graham's rule, at most a third above the best
there is, and far closer where rows are many). It looks at the step's rows alone, so every process
finds the same packs without asking another, and there is nothing to save for a restart.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a machine that only trains has no parquet, and stages read it
    from stages.workspace import Placement


class Load(NamedTuple):
    """What one row takes of a step."""

    cost: int
    """How much is computed for it, in any unit."""
    tokens: int = 0
    tiles: int = 0


class Room(NamedTuple):
    """What a process may hold at once; None is no limit."""

    tokens: int | None = None
    tiles: int | None = None

    @classmethod
    def of(cls, placement: "Placement") -> "Room":
        """Return what a placement allows."""
        return cls(placement.max_packed_tokens, placement.max_packed_tiles)

    def holds(self, tokens: int, tiles: int) -> bool:
        """Whether so much fits."""
        return (self.tokens is None or tokens <= self.tokens) and (self.tiles is None or tiles <= self.tiles)


ENDLESS = Room()
"""No limits."""


@dataclass
class _Pack:
    places: list[int] = field(default_factory=list)
    cost: int = 0
    tokens: int = 0
    tiles: int = 0

    def add(self, place: int, load: Load) -> None:
        self.places.append(place)
        self.cost += load.cost
        self.tokens += load.tokens
        self.tiles += load.tiles


def balanced(loads: Sequence[Load], processes: int, least: int = 1, room: Room = ENDLESS) -> list[list[list[int]]]:
    """Return each process's packs: every row of a step in one of them, packs of like cost, as few as this rule finds.

    Processes have equally many packs, for what lies in shards (FSDP2) is gathered by all of them for each. Packs that
    are computed at the same time are neighbours in cost, and turns go back and forth, so that sums are alike too.

    Args:
        loads: Of the step's rows, in their order; at least `processes * least`.
        processes: Who share them.
        least: Fewest packs of a process.
        room: Most tokens and tiles of a pack.

    Returns:
        By process and pack: places in `loads`, ascending; no pack is empty.

    Raises:
        ValueError: A row is larger than a pack, or there are too few rows.
    """
    for place, load in enumerate(loads):
        if not room.holds(load.tokens, load.tiles):
            raise ValueError(f"row {place} takes {load.tokens} tokens and {load.tiles} tiles; a pack is {room}")
    if len(loads) < processes * least:
        raise ValueError(f"{len(loads)} rows for {processes} processes with {least} packs each")
    each = max(least, _fewest(loads, processes, room))
    while (packs := _filled(loads, processes * each, room)) is None:
        each += 1
    packs.sort(key=lambda pack: (-pack.cost, pack.places))
    found: list[list[list[int]]] = [[] for _ in range(processes)]
    for turn in range(each):
        together = packs[turn * processes : (turn + 1) * processes]
        for process, pack in zip(found, together if turn % 2 == 0 else reversed(together), strict=True):
            process.append(sorted(pack.places))
    return found


def _fewest(loads: Sequence[Load], processes: int, room: Room) -> int:
    """Return how many packs each process needs if nothing is left free in any."""
    tokens, tiles = sum(load.tokens for load in loads), sum(load.tiles for load in loads)
    needs = [
        -(-taken // (limit * processes)) for taken, limit in ((tokens, room.tokens), (tiles, room.tiles)) if limit
    ]
    return max(needs, default=1)


def _filled(loads: Sequence[Load], count: int, room: Room) -> list[_Pack] | None:
    """Return so many packs with all rows in them; None where they do not fit this way."""
    packs = [_Pack() for _ in range(count)]
    heap = [(0, 0, number) for number in range(count)]
    for place in sorted(range(len(loads)), key=lambda place: (-loads[place].cost, place)):
        load, full = loads[place], []
        while heap:
            pack = packs[heap[0][2]]
            if room.holds(pack.tokens + load.tokens, pack.tiles + load.tiles):
                break
            full.append(heapq.heappop(heap))
        if not heap:
            return None
        pack.add(place, load)
        # Among packs of equal cost the one with fewer rows comes first, so that none stays empty.
        heapq.heapreplace(heap, (pack.cost, len(pack.places), heap[0][2]))
        for entry in full:
            heapq.heappush(heap, entry)
    return packs
