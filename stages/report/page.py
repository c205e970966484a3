"""One self-contained page: everything that the template shows, and the policy that lets nothing else in."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from filters.bits import BITS
from filters.funnel import PAPER, PAPER_TOTAL, Funnel
from filters.policies import Policy
from stages.planted import Counts, fraction, pooled
from stages.report import languages, rules, what_if
from stages.report.difference import Difference
from stages.report.flow import flow, multiples
from stages.report.hosts import Host
from stages.report.outcomes import outcome_lines
from stages.report.paper import BAND, State, Target
from stages.report.reviews import Review, wrong_drops
from stages.report.rows import STEPS, SourceRows, summed
from stages.report.shown import Gallery, Shown
from stages.report.svg import distance_dot, dumbbell, step_bar
from stages.report.text import distance, lost, marked, number, share, signed, source_name, visible
from stages.report.text import rows as short
from stages.report.verdict import SHOWN, Verdict, judge

TEMPLATES = Path(__file__).parents[1] / "templates"
RECIPES = ("tiny", "smoke", "photos", "paper")
_SIDES = ("dropped", "kept", "deep", "languages")
_BADGES = {"alarm": "✕ alarm", "unsure": "? cannot say", "warning": "! warning"}


@dataclass(frozen=True)
class Page:
    """All that a page is made of; the same page gives the same bytes."""

    sources: tuple[SourceRows, ...]
    provenance: Mapping[str, str]
    galleries: Mapping[str, Gallery] = field(default_factory=dict)
    reviews: tuple[Review, ...] = ()
    changes: tuple[Difference, ...] = ()
    hosts: tuple[Host, ...] = ()
    planted: Mapping[str, Counts] | None = None
    planted_outcomes: Mapping[str, Counts] | None = None
    band: float = BAND
    drawn: bool = False
    """Whether sources are drawn by us: then what they planted decides, and not the paper's shares."""

    @property
    def policy(self) -> Policy:
        """The policy, as the first source that has rules follows it."""
        return next((s.policy for s in self.sources if s.policy.filters), self.sources[0].policy)

    @property
    def judged(self) -> tuple[SourceRows, ...]:
        """Sources that rules judge; the exempt ones pass whole."""
        return tuple(s for s in self.sources if s.policy.filters) or self.sources

    @property
    def funnel(self) -> Funnel:
        """Counts by mask over all judged sources."""
        return reduce(add, (source.funnel for source in self.judged), Funnel())

    @property
    def version(self) -> str:
        """The run's version; empty where the page is about no artifact."""
        name, _, version = str(self.provenance.get("artifact", "")).rpartition("@")
        return version if name else ""


def environment() -> Environment:
    """Return the templates' environment: all text escaped, all names known."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(
        short=short, full=lambda count: f"{count:,}", marked=marked, visible=visible, fraction=fraction, number=number
    )
    return made


def data_block(value: Any) -> Markup:
    """Return JSON that may stand inside a script element: nothing in it can end the element or start another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that markup could begin with was just replaced


def _asset(name: str) -> tuple[Markup, str]:
    """Return one of our own files, and its hash as a content security policy names it."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"  # noqa: S704 - a file of this package, no input


def html_of(page: Page) -> str:
    """Return the page.

    Raises:
        ManifestError: The counts of a source do not add up.
    """
    style, style_hash = _asset("filter_report.css")
    script, script_hash = _asset("filter_report.js")
    verdict = verdict_of(page)
    fit, large = what_if.tunable(page.judged)
    several = len(page.sources) > 1
    groups = rules.groups(page.policy, page.funnel, page.judged)
    data = {
        "groups": rules.group_counts(page.policy, groups),
        "whatIf": what_if.payload(fit, several, page.band, page.version),
        "recipe": page.version if page.version in RECIPES else "",
        "policy": page.policy.name,
        "artifact": hashlib.sha256(json.dumps(dict(page.provenance), sort_keys=True).encode()).hexdigest()[:16],
    }
    edges = _edges(page)
    outcomes: dict[str, int] = reduce(_sum, (s.outcomes for s in page.sources), {})
    listed = sum(s.listed for s in page.sources)
    return environment().get_template("filter_report.html.j2").render(
        style=style,
        style_hash=style_hash,
        script=script,
        script_hash=script_hash,
        data=data_block(data),
        name=_name(page),
        artifact=page.provenance.get("artifact", ""),
        policy=page.policy.name,
        several=several,
        verdict=verdict,
        shown_alarms=[_alarm(each) for each in verdict.alarms[:SHOWN]],
        more_alarms=[_alarm(each) for each in verdict.alarms[SHOWN:]],
        badge=_badge(verdict.state),
        lead=_lead(page),
        ledgers=[(source_name(s.source), s.ledger) for s in page.sources],
        tiles=_tiles(page),
        targets=[_target(each, page.band) for each in verdict.targets],
        exempt=sum(not s.strict for s in page.sources if s.policy.name != "clean"),
        band=f"{100 * page.band:.0f}",
        flow=flow(page.sources),
        ladder=_ladder(page),
        multiples=multiples(page.sources),
        rules=rules.table(page.policy, page.funnel, page.judged) if page.policy.filters else [],
        rule_languages=rules.shown_languages(rules.together([s.languages for s in page.judged])),
        rule_sources=[source_name(s.source) for s in page.judged] if len(page.judged) > 1 else [],
        groups=[name for name, _ in groups],
        judged=page.funnel.samples,
        unknowns=any(page.funnel.unknown.values()),
        matrix=rules.matrix(page.policy, page.funnel),
        stands_out=rules.stands_out(page.policy, page.funnel),
        commonest=rules.commonest(page.funnel),
        tunable=[_tunable(page, source) for source in fit],
        too_large=[source_name(source.source) for source in large],
        alike=len({_stops(source) for source in fit}) == 1 and len(fit) > 1,
        dropped_stops=sum(len(stops) for s in fit if s.cube for stops in s.cube.dropped_stops.values()),
        edges=edges,
        pictures=any(row["src"] for edge in edges for side in _SIDES for row in edge[side]),
        stored=bool(page.version),
        looked_at=[(source_name(name), g.looked_at, g.rows) for name, g in page.galleries.items() if g.rows],
        wrong=[_wrong(each) for each in wrong_drops(page.reviews)],
        changes=[_change(each) for each in page.changes],
        outcomes=outcome_lines(outcomes, listed),
        planted_outcomes=dict(page.planted_outcomes or {}),
        pooled_outcomes=pooled("", page.planted_outcomes) if page.planted_outcomes else None,
        hosts=[_host(each) for each in page.hosts],
        fairness=[(source_name(s.source), t) for s in page.judged if (t := languages.table(s))],
        unfair=sum(len(languages.unfair(s)) for s in page.judged),
        language_rows=_language_rows(page),
        planted=dict(page.planted or {}),
        pooled=pooled("", page.planted) if page.planted else None,
        provenance=dict(page.provenance),
        bits=[(rule.reason, BITS[rule.reason], rule.origin) for rule in page.policy.filters],
        remake=_remake(page),
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


def _stops(source: SourceRows) -> str:
    assert source.cube is not None
    return json.dumps([sorted(source.cube.stops.items()), sorted(source.cube.current.items())])


def _name(page: Page) -> str:
    if len(page.sources) == 1:
        return f"{source_name(page.sources[0].source)} · {page.policy.name}"
    return f"{len(page.sources)} sources · {page.policy.name}"


def _badge(state: str) -> tuple[str, str]:
    kinds = {"hold": ("alarm", "✕ Hold"), "cannot say": ("warn", "? Cannot say"), "ready": ("ok", "✓ Ready")}
    return kinds.get(state, ("warn", f"! {state[0].upper()}{state[1:]}"))


def _alarm(each: Any) -> dict[str, str]:
    kind = "alarm" if each.severity == "alarm" else "warn"
    return {
        "kind": kind,
        "badge": _BADGES[each.severity],
        "sentence": each.sentence,
        "href": f"#{each.hash}" if each.hash else f"#{each.section}",
        "words": each.words,
    }


def _lead(page: Page) -> str:
    source = page.sources[0]
    if len(page.sources) == 1 and not source.policy.filters:
        return "This source passes the step whole, as in the paper: its counts do not change between the two steps."
    return f"{len(page.policy.filters)} rules; every rule saw every row."


def _tiles(page: Page) -> list[dict[str, str]]:
    steps = summed(list(page.sources))
    known = [s for s in page.sources if s.source in PAPER]
    all_of_it = len(page.sources) == len(PAPER) == len(known)
    paper = PAPER_TOTAL if all_of_it else PAPER[known[0].source] if len(page.sources) == 1 and known else None
    listed, decodable, clean, quality = (steps[n] or 0 for n in ("listed", "decodable", "clean", "caption quality"))

    def theirs(column: int, of: int) -> str:
        return f"paper {short(paper[column] * 1e6)}, {share(paper[column], paper[of])}" if paper else ""

    bound = f", paper implies ≥ {share(paper[1], paper[0])}" if paper else ""
    tiles = [
        {"name": "Listed", "rows": short(listed), "full": f"{listed:,}", "of": "", "note": theirs(0, 0).split(",")[0]},
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


def _ladder(page: Page) -> list[dict[str, Any]]:
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


def _target(found: Target, band: float) -> dict[str, Any]:
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
            good,
            f"{source_name(found.source)}: {distance(found.distance)} from the paper",
        )
    return {
        "name": source_name(found.source),
        "what": found.what,
        "ours": f"{100 * found.ours:.2f} %",
        "interval": f"{100 * found.interval[0]:.1f} – {100 * found.interval[1]:.1f} %" if found.interval else "census",
        "paper": f"≥ {100 * low:.1f} %" if found.distance is None else f"{100 * found.paper:.2f} %",
        "rounding": f"{100 * low:.2f} – {100 * high:.2f} %" if low != high else "exactly 100 %",
        "distance": distance(found.distance) if found.distance is not None else "a bound",
        "chart": chart,
        "pill": "warn" if good == "unsure" else "alarm" if good == "off" else "ok",
        "state": f"{mark} {found.state}",
    }


def _tunable(page: Page, source: SourceRows) -> dict[str, Any]:
    aim = what_if.paper_share(source)
    kept, judged = source.funnel.kept, source.funnel.samples
    gallery = page.galleries.get(source.source, Gallery())
    sliders = what_if.sliders(source)
    changing = [
        {"rule": slider["index"], "way": way, "rows": [_row(source, r, slider["unit"]) for r in rows]}
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
            for index, (name, kept_rows) in sorted(enumerate(now.items()), key=lambda item: (-item[1][1], item[0]))[:10]
        ],
    }


def _row(source: SourceRows, shown: Shown, unit: str) -> dict[str, Any]:
    return {
        "uid": shown.uid,
        "caption": marked(shown.caption),
        "language": visible(shown.language[:40]),
        "source": source_name(source.source),
        "source_id": source.source,
        "kept": shown.kept,
        "measure": f"{number(shown.measure)} {unit}".rstrip() if shown.measure is not None else "",
        "src": shown.picture.src if shown.picture else "",
        "pixelated": bool(shown.picture and shown.picture.pixelated),
    }


def _edges(page: Page) -> list[dict[str, Any]]:
    """Return the galleries rule by rule, sources after each other."""
    found = []
    for rule in page.policy.filters:
        sides: dict[str, list[dict[str, Any]]] = {side: [] for side in _SIDES}
        for source in page.judged:
            for edge in page.galleries.get(source.source, Gallery()).edges:
                if edge.reason == rule.reason:
                    for side in _SIDES:
                        sides[side] += [_row(source, shown, rule.unit) for shown in getattr(edge, side)]
        if sides["dropped"] or sides["kept"]:
            total, alone = page.funnel.total(rule.reason), page.funnel.alone(rule.reason)
            found.append(
                {
                    "reason": rule.reason,
                    "condition": rules.condition(rule),
                    "threshold": number(rules.limit(rule) or 0) + f" {rule.unit}" if rule.threshold else "",
                    "total": total,
                    "alone": alone,
                    **sides,
                }
            )
    return found


def _wrong(each: Any) -> dict[str, str]:
    low, high = each.interval
    return {
        "rule": each.rule,
        "language": visible(each.language[:40]) or "all languages",
        "wrong": f"{each.wrong:,} of {each.reviewed:,}",
        "share": share(each.wrong, each.reviewed),
        "interval": f"{100 * low:.1f} – {100 * high:.1f} %",
    }


def _change(each: Difference) -> dict[str, Any]:
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
            (visible(name[:40]), short(was), short(then), signed(100 * (then / was - 1)) if was else "–")
            for name, was, then in each.languages
        ],
        "examples": [(marked(s.caption), visible(s.language[:40]), reasons) for s, reasons in each.examples],
    }


def _both_ways(gone: int, back: int) -> str:
    words = [lost(gone)] if gone else []
    words += [f"+{short(back)}"] if back else []
    return " ".join(words) or "–"


def _host(each: Host) -> dict[str, str]:
    worst = f"{each.worst} {share(each.worst_rows, each.rows)}" if each.worst_rows else "–"
    return {"name": visible(each.name), "rows": short(each.rows), "fetched": share(each.fetched, each.rows), "worst": worst}


def _language_rows(page: Page) -> list[tuple[str, int, int, str]]:
    """Return (language, rows, kept, share) where counts by rule were not made."""
    if any(source.languages for source in page.judged):
        return []
    ordered = sorted(page.funnel.languages.items(), key=lambda item: (-item[1][0], item[0]))
    return [(visible(name[:40]), rows, kept, share(kept, rows)) for name, (rows, kept) in ordered]


def _remake(page: Page) -> str:
    artifact = page.provenance.get("artifact", "")
    against = f" --against {page.changes[0].before.rpartition('@')[2]}" if page.changes else ""
    return f"internvl report {artifact}{against}"


def verdict_of(page: Page) -> Verdict:
    """Return the page's verdict."""
    return judge(page.sources, page.band, page.planted, page.changes, page.drawn or bool(page.planted))
