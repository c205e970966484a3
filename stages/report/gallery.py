"""Rows nearest each threshold, chosen by hash: the same page comes back tomorrow, and nobody picks the examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.base import Filter
from filters.bits import BITS
from filters.cube import Cube
from filters.funnel import Funnel
from filters.policies import Policy
from filters.stops import moved
from stages.manifest import Manifest, Part
from stages.report.rules import limit
from stages.report.shown import Edge, Gallery, Shown
from stages.report.survey import Sample, Survey, hashes, survey, taken
from stages.report.thumbnails import Thumbnail, thumbnail
from stages.tars import read_tar
from stages.workspace import Output, read_file

NEAR = 6
DEEP = 3
IN_LANGUAGES = 7
CHANGING = 5
JUDGED_AT_ONCE = 4096
"""Rows judged anew in the order of their hash, until enough were found that change."""
MOST_PICTURES = 300
NEVER_SAMPLED = frozenset({"offensive"})
"""Rules on lists of words: what they hit is counted, and never shown."""

Rows = npt.NDArray[np.int64]


def gallery_of(
    output: Output,
    parts: Sequence[Part],
    policy: Policy,
    signals: Manifest,
    pool: Manifest | None,
    funnel: Funnel,
    cube: Cube | None = None,
) -> Gallery:
    """Return what a page shows of the rows of one source's verdicts.

    Args:
        output: The verdicts' artifact.
        parts: Its published parts.
        policy: The rules that gave the verdicts.
        signals: What they were given from.
        pool: Where the pictures are; None for captions alone.
        funnel: Counts of the verdicts.
        cube: The stops, to show what one stop more or less would change.
    """
    seen = survey(output, parts, policy, signals, funnel)
    edges = edges_of(policy, seen, cube)
    if pool is not None:
        edges = with_pictures(edges, seen.sample, output, pool)
    return Gallery(edges, seen.languages, seen.rows, len(seen.sample.uids))


def edges_of(policy: Policy, seen: Survey, cube: Cube | None) -> tuple[Edge, ...]:
    """Return the edge of each rule that dropped anything."""
    found = []
    for rule in policy.filters:
        if rule.reason not in NEVER_SAMPLED:
            edge = _edge(rule, seen.sample, cube)
            if edge.dropped:
                found.append(edge)
    return tuple(found)


def _edge(rule: Filter, sample: Sample, cube: Cube | None) -> Edge:
    order = hashes(sample.uids, rule.reason)
    bit = np.uint64(1 << BITS[rule.reason])
    listed = np.uint64(sum(1 << BITS[name] for name in NEVER_SAMPLED))
    hit = ((sample.reasons & bit) != 0) & ((sample.reasons & listed) == 0)
    alone, kept = sample.reasons == bit, sample.reasons == 0
    measure, at = sample.measures.get(rule.reason), limit(rule)

    def shown(rows: Rows) -> tuple[Shown, ...]:
        return tuple(_shown(sample, int(row), measure) for row in rows)

    if measure is None or at is None:
        rows, keys = np.flatnonzero(hit), (~alone, order)
        nearest = _languages(sample, rows, keys)
        return Edge(rule.reason, dropped=shown(first_of(rows, keys, NEAR)), languages=shown(nearest))
    distance = np.abs(measure.astype(np.float64) - at)
    known = ~np.isnan(measure)
    # Rows that another rule drops anyway say little about this one.
    below = first_of(np.flatnonzero(hit & known), (~alone, distance, order), NEAR)
    above = first_of(np.flatnonzero(kept & known), (distance, order), NEAR)
    either = _languages(sample, np.flatnonzero((alone | kept) & known), (distance, order))
    stricter, looser = _changing(rule, sample, cube, kept, alone, order)
    return Edge(
        rule.reason,
        dropped=shown(below),
        kept=shown(above),
        deep=shown(_deepest(np.flatnonzero(hit & known), distance, order)),
        languages=shown(either),
        stricter=shown(stricter),
        looser=shown(looser),
    )


def first_of(rows: Rows, keys: Sequence[npt.NDArray[Any]], most: int) -> Rows:
    """Return the first rows by the first key, ties by the next, in this order; no more are sorted than must be."""
    if not keys or most <= 0:
        return rows[: max(most, 0)]
    if len(rows) <= most:
        return rows[np.lexsort([key[rows] for key in reversed(keys)])]
    values = keys[0][rows]
    bar = np.partition(values, most - 1)[most - 1]
    sure = rows[values < bar]
    tied = first_of(rows[values == bar], keys[1:], most - len(sure))
    return np.concatenate([first_of(sure, keys, len(sure)), tied])


def _deepest(rows: Rows, distance: npt.NDArray[np.float64], order: npt.NDArray[np.uint64]) -> Rows:
    """Return some of the most extreme percent, by hash."""
    extreme = first_of(rows, (-distance, order), max(len(rows) // 100, DEEP))
    return first_of(extreme, (order,), DEEP)


def _languages(sample: Sample, rows: Rows, keys: Sequence[npt.NDArray[Any]]) -> Rows:
    """Return the first row of each language but the commonest."""
    codes = sample.coded_languages[rows]
    counts = np.bincount(codes)
    often = np.lexsort([np.arange(len(counts)), -counts])  # codes are in the order of names
    chosen = [code for code in often[1 : IN_LANGUAGES + 1] if counts[code]]
    return np.concatenate([np.zeros(0, np.int64), *(first_of(rows[codes == code], keys, 1) for code in chosen)])


def _changing(
    rule: Filter,
    sample: Sample,
    cube: Cube | None,
    kept: npt.NDArray[np.bool_],
    alone: npt.NDArray[np.bool_],
    order: npt.NDArray[np.uint64],
) -> tuple[Rows, Rows]:
    """Return rows that one stop more would drop, and rows that one stop less would keep: judged anew, not guessed."""
    nothing: Rows = np.zeros(0, dtype=np.int64)
    if cube is None or rule.reason not in cube.stops:
        return nothing, nothing
    stops, now = cube.stops[rule.reason], cube.current[rule.reason]
    columns = {name: sample.columns[name] for name in rule.reads}

    def changed(stop: int, among: npt.NDArray[np.bool_], keeps: bool) -> Rows:
        found = nothing
        rows = np.flatnonzero(among) if 0 <= stop < len(stops) else nothing
        rows = rows[np.argsort(order[rows])]
        for first in range(0, len(rows), JUDGED_AT_ONCE):
            some = rows[first : first + JUDGED_AT_ONCE]
            judged = moved(rule, stops[stop]).keep(taken(columns, pa.array(some)))
            found = np.concatenate([found, some[judged == keeps]])
            if len(found) >= CHANGING:
                break
        return found[:CHANGING]

    return changed(now + 1, kept, False), changed(now - 1, alone, True)


def _shown(sample: Sample, row: int, measure: npt.NDArray[np.float32] | None) -> Shown:
    return Shown(
        uid=sample.uids[row].hex(),
        caption=sample.captions[row],
        language=sample.languages[row],
        kept=not sample.reasons[row],
        measure=None if measure is None or np.isnan(measure[row]) else float(measure[row]),
    )


def with_pictures(
    edges: Sequence[Edge], sample: Sample, output: Output, pool: Manifest, most: int = MOST_PICTURES
) -> tuple[Edge, ...]:
    """Return edges with thumbnails, near rows before deep ones; a picture that is not there is left out."""
    wanted: list[str] = [row.uid for edge in edges for row in (*edge.dropped, *edge.kept)]
    wanted += [row.uid for edge in edges for row in edge.deep]
    chosen = set(wanted[:most])
    unsafe = dict(zip((uid.hex() for uid in sample.uids), sample.unsafe.tolist(), strict=True))
    parts = {sample.parts[bytes.fromhex(uid)] for uid in chosen}
    pictures: dict[str, Thumbnail] = {}
    for part in pool.parts:
        if part.key in parts and "pictures" in part.files:
            for uid, members in read_tar(read_file(output.store, pool, part.files["pictures"])):
                if uid in chosen and "jpg" in members:
                    score = unsafe[uid]
                    if made := thumbnail(members["jpg"], None if np.isnan(score) else score):
                        pictures[uid] = made

    def dressed(rows: tuple[Shown, ...]) -> tuple[Shown, ...]:
        return tuple(Shown(r.uid, r.caption, r.language, r.kept, r.measure, pictures.get(r.uid)) for r in rows)

    return tuple(
        Edge(e.reason, dressed(e.dropped), dressed(e.kept), dressed(e.deep), e.languages, e.stricter, e.looser)
        for e in edges
    )
