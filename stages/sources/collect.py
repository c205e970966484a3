"""Pieces of files into spills: each row read once, normalised, and put where its part will be made."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from infra.cluster import Cluster
from stages.sources.pieces import Piece
from stages.sources.reading import read
from stages.sources.rows import Rules, normalise
from stages.sources.spill import SPILL_BYTES, SPILL_ROWS, Spills
from stages.workspace import LIGHT_SECONDS

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Spilled:
    """What became of one piece."""

    keys: tuple[str, ...] = ()
    listed: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)


def spill_piece(item: tuple[int, int, Piece], rules: Rules, spills: Spills) -> Spilled:
    """Read one piece and spill its rows; what it leaves behind is the same if it runs twice."""
    number, file, piece = item
    keys: list[str] = []
    waiting: list[pa.Table] = []
    rejected: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    listed = kept = 0

    def flush() -> None:
        if waiting:
            keys.append(spills.write(f"{number:06d}-{len(keys):06d}", pa.concat_tables(waiting)))
            waiting.clear()

    for batch in read(piece, rules.layout):
        table, wrong = normalise(batch, file, rules)
        unread += wrong
        listed, kept = listed + table.num_rows, kept + table["reason"].null_count
        rejected.update(reason for reason in table["reason"].drop_null().to_pylist())
        waiting.append(table)
        if sum(t.num_rows for t in waiting) >= SPILL_ROWS or sum(t.nbytes for t in waiting) >= SPILL_BYTES:
            flush()
    flush()
    return Spilled(tuple(keys), listed, kept, rejected, unread)


def spread(
    cluster: Cluster, work: Callable[[T], R], items: Sequence[T], progress: Callable[[int], None] = lambda _: None
) -> Iterator[R]:
    """Yield one result per item; in this process while the rest takes less time than workers need to start."""
    todo, pace = list(items), 0.0
    while todo and pace * len(todo) < LIGHT_SECONDS:
        started = time.monotonic()
        yield work(todo.pop(0))
        pace = time.monotonic() - started
        progress(len(items) - len(todo))
    for number, result in enumerate(cluster.map(work, todo)):
        yield result
        progress(len(items) - len(todo) + number + 1)
