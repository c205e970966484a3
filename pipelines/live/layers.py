"""Places for the nodes of a graph: in layers from top to bottom, so that lines are short and cross seldom.

The layered method of Sugiyama, Tagawa and Toda (IEEE Trans. SMC 11(2), 1981): layers by the longest path, places
on the way for lines that pass a layer, an order by the mean place of the neighbours, then positions near them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
LINE = 0.35
"""Room that a passing line takes, of a node's."""

Edge = tuple[str, str]
_Point = tuple[str, ...]
"""(node,), or (from, to, layer) where a line passes a layer."""


@dataclass(frozen=True)
class Places:
    """Where things lie: columns of a node's width, rows of a layer's height, both from zero."""

    nodes: dict[str, tuple[float, int]]
    lines: dict[Edge, tuple[tuple[float, int], ...]]
    """For each line its points from the upper node to the lower one."""
    width: float
    """Columns in use."""
    layers: int


def reduced(order: Sequence[str], inputs: Mapping[str, Sequence[str]]) -> list[Edge]:
    """Return the lines that must be drawn: an input that another input rests on is left out.

    Args:
        order: Keys, each after its inputs.
        inputs: What each was made from.
    """
    behind: dict[str, set[str]] = {}
    edges = []
    for key in order:
        sources = [each for each in inputs.get(key, ()) if each in behind]
        implied = set[str]().union(*(behind[each] for each in sources))
        edges += [(each, key) for each in sources if each not in implied]
        behind[key] = implied.union(sources)
    return edges


def arranged(order: Sequence[str], edges: Sequence[Edge]) -> Places:
    """Return a place for each node and each line.

    Args:
        order: Keys, each after those that lines lead from to it.
        edges: Lines.
    """
    layer = _layers(order, edges)
    depth = max(layer.values(), default=-1) + 1
    rows: list[list[_Point]] = [[] for _ in range(depth)]
    for key in order:
        rows[layer[key]].append((key,))
    up: dict[_Point, list[_Point]] = {}
    chains: dict[Edge, list[_Point]] = {}
    for begin, end in edges:
        chain: list[_Point] = [(begin,)]
        for number in range(layer[begin] + 1, layer[end]):
            chain.append((begin, end, str(number)))
            rows[number].append(chain[-1])
        chain.append((end,))
        chains[begin, end] = chain
        for above, below in pairwise(chain):
            up.setdefault(below, []).append(above)
    down: dict[_Point, list[_Point]] = {}
    for below, all_above in up.items():
        for above in all_above:
            down.setdefault(above, []).append(below)
    at = _positions(_ordered(rows, up, down), up, down)
    return Places(
        nodes={key: (at[(key,)], layer[key]) for key in order},
        lines={
            edge: tuple((at[point], layer[edge[0]] + number) for number, point in enumerate(chain))
            for edge, chain in chains.items()
        },
        width=max(at.values(), default=0.0) + 1,
        layers=depth,
    )


def _layers(order: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return each node's layer: below all it comes from; what comes from nothing lies right above its first use."""
    before: dict[str, list[str]] = {key: [] for key in order}
    after: dict[str, list[str]] = {key: [] for key in order}
    for begin, end in edges:
        before[end].append(begin)
        after[begin].append(end)
    layer: dict[str, int] = {}
    for key in order:
        layer[key] = max((layer[each] + 1 for each in before[key]), default=0)
    for key in order:
        if not before[key] and after[key]:
            layer[key] = min(layer[each] for each in after[key]) - 1
    return layer


def _ordered(
    rows: list[list[_Point]], up: Mapping[_Point, Sequence[_Point]], down: Mapping[_Point, Sequence[_Point]]
) -> list[list[_Point]]:
    """Order each layer by the mean place of the neighbours above, then below, and so on."""
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        near, numbers = (up, range(1, len(rows))) if downwards else (down, range(len(rows) - 2, -1, -1))
        for number in numbers:
            beside = rows[number - 1] if downwards else rows[number + 1]
            place = {point: index for index, point in enumerate(beside)}
            own = {point: float(index) for index, point in enumerate(rows[number])}
            rows[number].sort(
                key=lambda point, place=place, own=own: _mean(  # type: ignore[misc]
                    [place[each] for each in near.get(point, ())], own[point]
                )
            )
    return rows


def _positions(
    rows: Sequence[Sequence[_Point]],
    up: Mapping[_Point, Sequence[_Point]],
    down: Mapping[_Point, Sequence[_Point]],
) -> dict[_Point, float]:
    """Draw each point to the mean of its neighbours, as near as order and room let it; leftmost at zero."""
    at = {point: float(index) for row in rows for index, point in enumerate(row)}
    for sweep in range(SWEEPS):
        near = up if sweep % 2 == 0 else down
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([at[each] for each in near.get(point, ())], at[point]) for point in row]
            at.update(zip(row, _apart(wanted, [_room(point) for point in row]), strict=True))
    least = min(at.values(), default=0.0)
    return {point: value - least for point, value in at.items()}


def _room(point: _Point) -> float:
    return 1.0 if len(point) == 1 else LINE


def _apart(wanted: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """Return positions in order, each with its room, nearest to the wanted ones by squares.

    Less the room before it, each must not lie left of the one before: isotonic regression, by pooling neighbours.
    """
    offsets, at = [], 0.0
    for number, room in enumerate(rooms):
        at += (rooms[number - 1] + room) / 2 if number else 0.0
        offsets.append(at)
    pools: list[tuple[float, int]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        total, count = value - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    level = [total / count for total, count in pools for _ in range(count)]
    return [each + offset for each, offset in zip(level, offsets, strict=True)]


def _mean(values: Sequence[float], other: float) -> float:
    return sum(values) / len(values) if values else other
