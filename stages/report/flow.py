"""The picture of the whole: ribbons of sources from listed to the strict step, losses peeling off downward."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from filters.funnel import PAPER, PAPER_TOTAL
from stages.report.rows import SourceRows
from stages.report.svg import drawing, path, rect, stacked, text
from stages.report.text import rows as short
from stages.report.text import share, source_name

WIDTH, TALL, BAR = 860.0, 250.0, 9.0
RIBBONS = 4
COLUMNS = (90.0, 330.0, 560.0, 740.0)
_LOSSES = ("away", "ochre", "drop")
_LOST_WORDS = ("not fetched", "clean rules", "caption rules")
_STATES = ("kept", "dropped by caption rules", "by clean rules", "not fetched or undecodable", "not permitted")
_HEADS = ("listed", "fetched and decodable", "clean", "caption quality")


def flow(sources: Sequence[SourceRows]) -> Markup | None:
    """Return ribbons from listed to caption quality, one colour per source; None for fewer than two sources."""
    if len(sources) < 2 or any(source.quality is None for source in sources):
        return None
    streams = _streams(sources)
    whole = sum(stream[1][0] for stream in streams)
    if not whole:
        return None
    scale = TALL / whole
    totals = [sum(rows[column] for _, rows in streams) for column in range(4)]
    whole_paper = {source.source for source in sources} == PAPER.keys()
    parts: list[Markup] = []
    for x, head, total in zip(COLUMNS, _HEADS, totals, strict=True):
        parts += [
            text(x, 16, short(total), "figure"),
            text(x, 31, head, "label"),
            text(x, 44, _paper(head, whole_paper), "note"),
        ]
    top, bottom = 54.0, 54.0 + TALL
    tops = [_stack(streams, column, scale, top) for column in range(4)]
    sinks = [bottom + 6.0 - (totals[0] - totals[column]) * scale * 0.35 for column in (1, 2, 3)]
    sinks = [max(sink, top + totals[column] * scale + 24) for sink, column in zip(sinks, (1, 2, 3), strict=True)]
    low = bottom
    for number, (name, rows) in enumerate(streams):
        for column in range(3):
            x1, x2 = COLUMNS[column] + BAR, COLUMNS[column + 1]
            y1, y2 = tops[column][number], tops[column + 1][number]
            kept, gone = rows[column + 1] * scale, (rows[column] - rows[column + 1]) * scale
            if gone > 0:
                parts.append(_ribbon(x1, y1 + kept, x2, sinks[column], gone, f"ribbon {_LOSSES[column]}"))
                sinks[column] += gone
            if kept > 0:
                parts.append(_ribbon(x1, y1, x2, y2, kept, f"ribbon s{number}"))
        for column in range(4):
            parts.append(rect(COLUMNS[column], tops[column][number], BAR, rows[column] * scale, f"s{number}"))
        if rows[0] * scale >= 9:
            parts.append(text(COLUMNS[0] - 8, tops[0][number] + rows[0] * scale / 2 + 4, name, "label end"))
        if rows[3] * scale >= 9:
            parts.append(
                text(
                    COLUMNS[3] + BAR + 6, tops[3][number] + rows[3] * scale / 2 + 4, share(rows[3], totals[3]), "note"
                )
            )
    for column in range(3):
        gone = (totals[column] - totals[column + 1]) * scale
        if gone > 0:
            y = sinks[column] - gone
            x = COLUMNS[column + 1]
            parts.append(rect(x, y, BAR, gone, _LOSSES[column]))
            parts.append(text(x + BAR + 6, y + gone / 2, f"−{short(totals[column] - totals[column + 1])}", "strong"))
            parts.append(text(x + BAR + 6, y + gone / 2 + 13, _LOST_WORDS[column], "label"))
            low = max(low, sinks[column], y + gone / 2 + 18)
    label = ", ".join(f"{total:,} {head}" for head, total in zip(_HEADS, totals, strict=True))
    return drawing(WIDTH, low + 8, f"Flow of rows by source: {label}", parts, "flow")


def _paper(head: str, whole: bool) -> str:
    """Return the paper's number, where all of its sources are here."""
    paper = {"listed": PAPER_TOTAL[0], "clean": PAPER_TOTAL[1], "caption quality": PAPER_TOTAL[2]}.get(head)
    return "" if not whole else f"paper {paper / 1000:.2f} B" if paper else "paper does not say"


def _streams(sources: Sequence[SourceRows]) -> list[tuple[str, list[int]]]:
    """Return (name, rows at four columns): the largest sources, and all others as one."""
    each = [(source_name(s.source), [s.listed, s.decodable, s.clean, s.quality or 0]) for s in sources]
    each.sort(key=lambda item: (-item[1][0], item[0]))
    if len(each) > RIBBONS + 1:
        rest = each[RIBBONS:]
        each = [*each[:RIBBONS], (f"{len(rest)} smaller", [sum(r[c] for _, r in rest) for c in range(4)])]
    return each


def _stack(streams: Sequence[tuple[str, list[int]]], column: int, scale: float, top: float) -> list[float]:
    tops, y = [], top
    for _, rows in streams:
        tops.append(y)
        y += rows[column] * scale + (3 if rows[column] else 0)
    return tops


def _ribbon(x1: float, y1: float, x2: float, y2: float, thick: float, kind: str) -> Markup:
    bend = (x2 - x1) * 0.5
    down = y2 + thick
    return path(
        f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        f"V{down:.1f}C{x2 - bend:.1f} {down:.1f} {x1 + bend:.1f} {y1 + thick:.1f} {x1:.1f} {y1 + thick:.1f}Z",
        kind,
    )


def multiples(sources: Sequence[SourceRows]) -> list[dict[str, Any]]:
    """Return one small bar per source: shares of listed, ours thick, the paper's thin below it."""
    found = []
    for source in sources:
        steps = source.steps()
        whole = max(source.listed, 1)
        permitted = steps["permitted"] if steps["permitted"] is not None else source.listed
        kept = source.funnel.kept
        by_caption = source.clean - kept
        ours = [
            ("kept", kept / whole),
            ("drop", by_caption / whole),
            ("ochre", (source.decodable - source.clean) / whole),
            ("away", (permitted - source.decodable) / whole),
            ("refused", (source.listed - permitted) / whole),
        ]
        paper = PAPER.get(source.source)
        theirs = None
        if paper:
            last = paper[1] if source.quality is None else paper[2]
            theirs = [
                ("kept", last / paper[0]),
                ("drop", (paper[1] - last) / paper[0]),
                ("paper-lost", 1 - paper[1] / paper[0]),
            ]
        words = ", ".join(f"{100 * part:.1f} % {name}" for (_, part), name in zip(ours, _STATES, strict=True))
        found.append(
            {
                "name": source_name(source.source),
                "listed": short(source.listed),
                "ours": stacked(ours, 14, f"{source_name(source.source)}, of listed: {words}"),
                "theirs": stacked(theirs, 6, "the paper's shares of listed", "stacked thin") if theirs else None,
                "clean": share(source.clean, source.listed),
                "quality": share(source.quality, source.listed) if source.quality is not None else None,
                "paper_clean": share(paper[1], paper[0]) if paper else "–",
                "paper_quality": share(paper[2], paper[0]) if paper else "–",
            }
        )
    return found
