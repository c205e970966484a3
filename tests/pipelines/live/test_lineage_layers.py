"""Places of a graph's nodes: layers follow the lines, nothing overlaps, few lines cross."""

import random
from itertools import pairwise

import pytest

from pipelines.live.layers import arranged, reduced


def test_what_another_input_rests_on_is_not_drawn() -> None:
    inputs = {"pool": ["listing"], "signals": ["pool", "listing"], "shards": ["signals", "pool", "other"]}
    order = ["listing", "other", "pool", "signals", "shards"]
    assert reduced(order, inputs) == [
        ("listing", "pool"),
        ("pool", "signals"),
        ("signals", "shards"),
        ("other", "shards"),
    ]


def test_sources_side_by_side_cross_nowhere() -> None:
    # Named so that the order of names would cross every line.
    edges = [(f"listing{n}", f"pool{9 - n}") for n in range(5)] + [(f"pool{9 - n}", "shards") for n in range(5)]
    order = [f"listing{n}" for n in range(5)] + [f"pool{n}" for n in range(5, 10)] + ["shards"]
    places = arranged(order, edges)
    assert crossings(places.lines) == 0
    columns = sorted(places.nodes[f"pool{n}"][0] for n in range(5, 10))
    assert places.nodes["shards"][0] == pytest.approx(columns[2]), "what comes from five lies below the middle one"


def test_a_source_lies_right_above_its_first_use() -> None:
    order = ["a", "b", "c", "words", "d"]
    places = arranged(order, [("a", "b"), ("b", "c"), ("c", "d"), ("words", "d")])
    assert {key: layer for key, (_, layer) in places.nodes.items()} == {"a": 0, "b": 1, "c": 2, "words": 2, "d": 3}


@pytest.mark.parametrize("seed", range(6))
def test_any_graph_has_room_and_runs_downwards(seed: int) -> None:
    dice = random.Random(seed)
    order = [f"n{n}" for n in range(40)]
    inputs = {key: dice.sample(order[:n], min(n, dice.randrange(4))) for n, key in enumerate(order)}
    edges = reduced(order, inputs)
    places = arranged(order, edges)
    for begin, end in edges:
        line = places.lines[begin, end]
        assert [layer for _, layer in line] == list(range(places.nodes[begin][1], places.nodes[end][1] + 1))
        assert line[0] == places.nodes[begin] and line[-1] == places.nodes[end]
    for layer in range(places.layers):
        columns = sorted(column for column, own in places.nodes.values() if own == layer)
        assert columns and all(b - a > 0.999 for a, b in pairwise(columns))
    assert min(column for column, _ in places.nodes.values()) >= 0
    assert max(column for column, _ in places.nodes.values()) <= places.width - 1
    assert places == arranged(order, edges)


def test_nothing_has_no_place() -> None:
    assert arranged([], []).layers == 0


def crossings(lines: dict[tuple[str, str], tuple[tuple[float, int], ...]]) -> int:
    pieces = [(a, b) for line in lines.values() for a, b in pairwise(line)]
    return sum(
        (a[0] - c[0]) * (b[0] - d[0]) < -1e-9
        for number, (a, b) in enumerate(pieces)
        for c, d in pieces[:number]
        if a[1] == c[1]
    )
