"""Rows to look at, sliders, differences, answers and hosts, as the template shows them."""

from typing import Any

from filters.funnel import PAPER
from stages.report import rules, what_if
from stages.report.difference import Difference
from stages.report.hosts import Host
from stages.report.model import Page
from stages.report.reviews import Wrong
from stages.report.rows import SourceRows
from stages.report.shown import Gallery, Shown
from stages.report.svg import dumbbell
from stages.report.text import distance, language_name, lost, marked, share, signed, source_name, visible, with_unit
from stages.report.text import rows as short

MOST_ROWS = 7
SIDES = ("dropped", "kept", "deep", "languages")


def tunable_view(page: Page, source: SourceRows) -> dict[str, Any]:
    """Return one source's sliders, what changes first, and its shares now."""
    aim = what_if.paper_share(source)
    kept, judged = source.funnel.kept, source.funnel.samples
    gallery = page.galleries.get(source.source, Gallery())
    sliders = what_if.sliders(source)
    changing = [
        {
            "rule": slider["index"],
            "name": slider["name"],
            "way": way,
            "rows": [_row(source, r, slider["unit"]) for r in rows],
        }
        for slider in sliders
        for edge in gallery.edges
        if edge.reason == slider["name"]
        for way, rows in (("stricter", edge.stricter), ("looser", edge.looser))
        if rows
    ]
    single = len(page.sources) == 1 and source.cube is not None and len(source.cube.groups) > 1
    now = source.cube.kept_by_group() if single and source.cube else {}
    return {
        "id": source.source,
        "name": source_name(source.source),
        "now": share(kept, judged),
        "kept": short(kept),
        "paper": share(aim, 1) if aim else "–",
        "distance": distance(kept / judged / aim - 1) if aim else "–",
        "good": bool(aim) and abs(kept / judged / aim - 1) <= page.band if aim else None,
        "sliders": sliders,
        "changing": changing,
        "languages": [
            (index, name, kept_rows)
            for index, (name, kept_rows) in sorted(enumerate(now.items()), key=lambda item: (-item[1][1], item[0]))[
                :10
            ]
        ],
    }


def _row(source: SourceRows, shown: Shown, unit: str) -> dict[str, Any]:
    return {
        "uid": shown.uid,
        "caption": marked(shown.caption),
        "language": language_name(shown.language),
        "source": source_name(source.source),
        "source_id": source.source,
        "kept": shown.kept,
        "measure": with_unit(shown.measure, unit) if shown.measure is not None else "",
        "src": shown.picture.src if shown.picture else "",
        "pixelated": bool(shown.picture and shown.picture.pixelated),
    }


def edges_of(page: Page) -> list[dict[str, Any]]:
    """Return the galleries rule by rule, sources after each other."""
    found = []
    # Several sources share the room that one has.
    each = MOST_ROWS if len(page.judged) == 1 else max(2, MOST_ROWS // len(page.judged))
    for rule in page.policy.filters:
        sides: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for source in page.judged:
            for edge in page.galleries.get(source.source, Gallery()).edges:
                if edge.reason == rule.reason:
                    for side in SIDES:
                        sides[side] += [_row(source, shown, rule.unit) for shown in getattr(edge, side)[:each]]
        if sides["dropped"] or sides["kept"]:
            total, alone = page.funnel.total(rule.reason), page.funnel.alone(rule.reason)
            found.append(
                {
                    "reason": rule.reason,
                    "condition": rules.condition(rule),
                    "threshold": with_unit(rules.limit(rule) or 0, rule.unit) if rule.threshold else "",
                    "total": total,
                    "alone": alone,
                    **sides,
                }
            )
    return found


def wrong_view(each: Wrong) -> dict[str, str]:
    """Return what reviewers say of one rule."""
    low, high = each.interval
    return {
        "rule": each.rule,
        "language": language_name(each.language) or "all languages",
        "wrong": f"{each.wrong:,} of {each.reviewed:,}",
        "share": share(each.wrong, each.reviewed),
        "interval": f"{100 * low:.1f} – {100 * high:.1f} %",
    }


def change_view(each: Difference) -> dict[str, Any]:
    """Return one source's difference from another run."""
    before = each.kept_before / max(each.judged_before, 1)
    now = each.kept_now / max(each.judged_now, 1)
    paper = PAPER.get(each.source)
    column = (1, 0) if "/clean/" in each.before else (2, 1)
    theirs = paper[column[0]] / paper[column[1]] if paper else None
    scale = max(before, now, theirs or 0, 0.01) * 1.15
    return {
        "change": each,
        "name": source_name(each.source),
        "before": share(before, 1),
        "now": share(now, 1),
        "paper": share(theirs, 1) if theirs else "–",
        "dumbbell": dumbbell(before, now, theirs, scale, f"kept before {share(before, 1)}, now {share(now, 1)}"),
        "moved": [
            {
                "parameter": m.parameter,
                "was": m.was,
                "now": m.now,
                "alone": _both_ways(m.lost_alone, m.gained_alone),
                "shared": _both_ways(m.lost_shared, m.gained_shared),
            }
            for m in each.moved
        ],
        "languages": [
            (language_name(name), short(was), short(then), signed(100 * (then / was - 1)) if was else "–")
            for name, was, then in each.languages
        ],
        "examples": [(marked(s.caption), language_name(s.language), reasons) for s, reasons in each.examples],
    }


def _both_ways(gone: int, back: int) -> str:
    words = [lost(gone)] if gone else []
    words += [f"+{short(back)}"] if back else []
    return " ".join(words) or "–"


def host_view(each: Host) -> dict[str, str]:
    """Return one line of the table of hosts."""
    worst = f"{each.worst} {share(each.worst_rows, each.rows)}" if each.worst_rows else "–"
    return {
        "name": visible(each.name),
        "rows": short(each.rows),
        "fetched": share(each.fetched, each.rows),
        "worst": worst,
    }


def language_rows(page: Page) -> list[tuple[str, int, int, str]]:
    """Return (language, rows, kept, share) where counts by rule were not made."""
    if any(source.languages for source in page.judged):
        return []
    ordered = sorted(page.funnel.languages.items(), key=lambda item: (-item[1][0], item[0]))
    return [(language_name(name), rows, kept, share(kept, rows)) for name, (rows, kept) in ordered]
