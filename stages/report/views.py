"""The first screens in words and numbers: verdict, alarms, tiles, ladder, and targets beside the paper."""

from typing import Any

from filters.funnel import PAPER, PAPER_TOTAL
from stages.report.alarms import Alarm
from stages.report.model import Page
from stages.report.paper import State, Target
from stages.report.rows import STEPS, summed
from stages.report.svg import distance_dot, step_bar
from stages.report.text import distance, lost, share, source_name
from stages.report.text import rows as short

_BADGES = {"alarm": "✕ alarm", "unsure": "? cannot say", "warning": "! warning"}


def badge_of(state: str) -> tuple[str, str]:
    """Return (class, words) of the verdict's badge."""
    kinds = {"hold": ("alarm", "✕ Hold"), "cannot say": ("warn", "? Cannot say"), "ready": ("ok", "✓ Ready")}
    return kinds.get(state, ("warn", f"! {state[0].upper()}{state[1:]}"))


def alarm_view(each: Alarm) -> dict[str, str]:
    """Return one alarm with its badge and where it leads."""
    kind = "alarm" if each.severity == "alarm" else "warn"
    return {
        "kind": kind,
        "badge": _BADGES[each.severity],
        "sentence": each.sentence,
        "href": f"#{each.hash}" if each.hash else f"#{each.section}",
        "words": each.words,
    }


def lead_of(page: Page) -> str:
    """Return what was judged, in one sentence."""
    source = page.sources[0]
    if len(page.sources) == 1 and not source.policy.filters:
        return "This source passes the step whole, as in the paper: its counts do not change between the two steps."
    return f"{len(page.policy.filters)} rules; every rule saw every row."


def name_of(page: Page) -> str:
    """Return what the page is about."""
    if len(page.sources) == 1:
        return f"{source_name(page.sources[0].source)} · {page.policy.name}"
    return f"{len(page.sources)} sources · {page.policy.name}"


def tiles_of(page: Page) -> list[dict[str, str]]:
    """Return the large figures, each with its named denominator and the paper's beside it."""
    steps = summed(list(page.sources))
    known = [s for s in page.sources if s.source in PAPER]
    all_of_it = len(page.sources) == len(PAPER) == len(known)
    paper = PAPER_TOTAL if all_of_it else PAPER[known[0].source] if len(page.sources) == 1 and known else None
    listed, decodable, clean, quality = (steps[n] or 0 for n in ("listed", "decodable", "clean", "caption quality"))

    def theirs(column: int, of: int) -> str:
        return f"paper {short(paper[column] * 1e6)}, {share(paper[column], paper[of])}" if paper else ""

    bound = f", paper implies ≥ {share(paper[1], paper[0])}" if paper else ""
    tiles = [
        {
            "name": "Listed",
            "rows": short(listed),
            "full": f"{listed:,}",
            "of": "",
            "note": theirs(0, 0).split(",")[0],
        },
        {
            "name": "Clean",
            "rows": short(clean),
            "full": f"{clean:,}",
            "of": f"{share(clean, listed)} of listed",
            "note": f"{theirs(1, 0)} · of decodable {share(clean, decodable)}{bound}".removeprefix(" · "),
        },
    ]
    if steps["caption quality"] is not None:
        of_clean = f"{share(quality, clean)} of clean"
        tiles.append(
            {
                "name": "Caption quality",
                "rows": short(quality),
                "full": f"{quality:,}",
                "of": of_clean,
                "note": theirs(2, 1),
            }
        )
    return tiles


def ladder_of(page: Page) -> list[dict[str, Any]]:
    """Return the steps, each with its rows and shares of named denominators."""
    steps = summed(list(page.sources))
    known = {s.source for s in page.sources}
    paper = PAPER[page.sources[0].source] if len(known) == 1 and known <= PAPER.keys() else None
    if known == PAPER.keys():
        paper = PAPER_TOTAL
    column = {"listed": 0, "clean": 1, "caption quality": 2}
    listed, before, previous = steps["listed"] or 0, steps["listed"] or 0, ""
    found = []
    for name in STEPS:
        rows = steps[name]
        if rows is None:
            if name == "caption quality":
                continue
            found.append({"name": name, "rows": "–", "full": "not known", "of_listed": "–", "of_before": "–",
                          "denominator": "", "lost": "–", "paper": "–", "bar": None})  # fmt: skip
            continue
        theirs = paper[column[name]] / paper[0] if paper and name in column else None
        found.append(
            {
                "name": name,
                "rows": short(rows),
                "full": f"{rows:,}",
                "of_listed": share(rows, listed),
                "of_before": share(rows, before) if previous else "",
                "denominator": f"of {previous}" if previous else "",
                "lost": lost(before - rows) if previous else "",
                "paper": share(theirs, 1) if theirs is not None else "–",
                "bar": step_bar(
                    rows / max(listed, 1),
                    before / max(listed, 1),
                    theirs if name != "listed" else None,
                    f"{name}: {share(rows, listed)} of listed",
                ),
            }
        )
        before, previous = rows, name
    return found


def target_view(found: Target, band: float, drawn: bool) -> dict[str, Any]:
    """Return one comparison with the paper."""
    good = {State.OK: "ok", State.OFF: "off", State.UNSURE: "unsure"}[found.state]
    mark = {State.OK: "✓", State.OFF: "✕", State.UNSURE: "?"}[found.state]
    low, high = found.rounding
    chart = None
    if found.distance is not None and found.rounding != (1.0, 1.0):
        chart = distance_dot(
            found.distance,
            (found.interval[0] / found.paper - 1, found.interval[1] / found.paper - 1) if found.interval else None,
            (low / found.paper - 1, high / found.paper - 1),
            band,
            "ink" if drawn else good,
            f"{source_name(found.source)}: {distance(found.distance)} from the paper",
        )
    return {
        "name": source_name(found.source),
        "what": found.what,
        "ours": f"{100 * found.ours:.2f} %",
        "interval": f"{100 * found.interval[0]:.1f} – {100 * found.interval[1]:.1f} %"
        if found.interval
        else "census",
        "paper": f"≥ {100 * low:.1f} %" if found.distance is None else f"{100 * found.paper:.2f} %",
        "rounding": f"{100 * low:.2f} – {100 * high:.2f} %" if low != high else "exactly 100 %",
        "distance": distance(found.distance) if found.distance is not None else "a bound",
        "chart": chart,
        "pill": "" if drawn else "warn" if good == "unsure" else "alarm" if good == "off" else "ok",
        "state": "drawn source" if drawn else f"{mark} {found.state}",
    }
