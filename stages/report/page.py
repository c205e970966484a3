"""One self-contained page: everything that the template shows, and the policy that lets nothing else in."""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from filters.bits import BITS
from stages.planted import fraction, pooled
from stages.report import languages, rules, what_if
from stages.report.flow import flow, multiples
from stages.report.model import Page, verdict_of
from stages.report.outcomes import outcome_lines
from stages.report.paper import BAND
from stages.report.reviews import wrong_drops
from stages.report.row_views import (
    SIDES,
    change_view,
    edges_of,
    host_view,
    language_rows,
    tunable_view,
    wrong_view,
)
from stages.report.rows import SourceRows
from stages.report.text import drawn, language_name, marked, number, source_name, visible
from stages.report.text import rows as short
from stages.report.verdict import SHOWN
from stages.report.views import alarm_view, badge_of, ladder_of, lead_of, name_of, target_view, tiles_of

TEMPLATES = Path(__file__).parents[1] / "templates"


def environment() -> Environment:
    """Return the templates' environment: all text escaped, all names known."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(
        short=short, full=lambda count: f"{count:,}", marked=marked, visible=visible, language_name=language_name,
        fraction=fraction, number=number, drawn=drawn,
    )  # fmt: skip
    return made


def data_block(value: Any) -> Markup:
    """Return JSON that may stand inside a script element: nothing in it can end the element or start another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def asset(*names: str) -> tuple[Markup, str]:
    """Return one of our own files, or several as one, and its hash as a content security policy names it."""
    text = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


def html_of(page: Page) -> str:
    """Return the page.

    Raises:
        ManifestError: The counts of a source do not add up.
    """
    style, style_hash = asset("filter_report.css")
    script, script_hash = asset("filter_report.js")
    verdict = verdict_of(page)
    fit, large = what_if.tunable(page.judged)
    several = len(page.sources) > 1
    groups = rules.groups(page.policy, page.funnel, page.judged)
    data = {
        "groups": rules.group_counts(page.policy, groups),
        "whatIf": what_if.payload(fit, several, page.band, page.tuned, page.applying),
        "policy": page.policy.name,
        "artifact": hashlib.sha256(json.dumps(dict(page.provenance), sort_keys=True).encode()).hexdigest()[:16],
    }
    edges = edges_of(page)
    outcomes: dict[str, int] = reduce(_sum, (s.outcomes for s in page.sources), {})
    listed = sum(s.listed for s in page.sources)
    return (
        environment()
        .get_template("filter_report.html.j2")
        .render(
            style=style,
            style_hash=style_hash,
            script=script,
            script_hash=script_hash,
            data=data_block(data),
            name=name_of(page),
            artifact=page.provenance.get("artifact", ""),
            drawn=page.is_drawn,
            policy=page.policy.name,
            several=several,
            verdict=verdict,
            shown_alarms=[alarm_view(each) for each in verdict.alarms[:SHOWN]],
            more_alarms=[alarm_view(each) for each in verdict.alarms[SHOWN:]],
            badge=badge_of(verdict.state),
            lead=lead_of(page),
            ledgers=[(source_name(s.source), s.ledger) for s in page.sources],
            tiles=tiles_of(page),
            targets=[target_view(each, page.band, page.is_drawn) for each in verdict.targets],
            exempt=sum(not s.strict for s in page.sources if s.policy.name != "clean"),
            band=f"{100 * page.band:.0f}",
            flow=flow(page.sources),
            ladder=ladder_of(page),
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
            tunable=[tunable_view(page, source) for source in fit],
            too_large=[source_name(source.source) for source in large],
            alike=len({_stops(source) for source in fit}) == 1 and len(fit) > 1,
            dropped_stops=sum(len(stops) for s in fit if s.cube for stops in s.cube.dropped_stops.values()),
            edges=edges,
            pictures=any(row["src"] for edge in edges for side in SIDES for row in edge[side]),
            stored=bool(page.version),
            applies=bool(fit) and all(source.source in page.applying for source in fit),
            looked_at=[(source_name(name), g.looked_at, g.rows) for name, g in page.galleries.items() if g.rows],
            wrong=[wrong_view(each) for each in wrong_drops(page.reviews, {s.source for s in page.sources})],
            changes=[change_view(each) for each in page.changes],
            outcomes=outcome_lines(outcomes, listed),
            planted_outcomes=dict(page.planted_outcomes or {}),
            pooled_outcomes=pooled("", page.planted_outcomes) if page.planted_outcomes else None,
            hosts=[host_view(each) for each in page.hosts],
            fairness=[(source_name(s.source), t) for s in page.judged if (t := languages.table(s))],
            unfair=sum(len(languages.unfair(s)) for s in page.judged),
            language_rows=language_rows(page),
            planted=dict(page.planted or {}),
            pooled=pooled("", page.planted) if page.planted else None,
            provenance=dict(page.provenance),
            bits=[(rule.reason, BITS[rule.reason], rule.origin) for rule in page.policy.filters],
            remake=_remake(page),
        )
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


def _stops(source: SourceRows) -> str:
    assert source.cube is not None
    return json.dumps([sorted(source.cube.stops.items()), sorted(source.cube.current.items())])


def _remake(page: Page) -> str:
    artifact = page.provenance.get("artifact", "")
    against = f" --against {page.changes[0].before.rpartition('@')[2]}" if page.changes else ""
    profile = f" --profile {page.provenance['profile']}" if "profile" in page.provenance else ""
    band = f" --band {page.band:g}" if page.band != BAND else ""
    return f"internvl report {quote(artifact)}{against}{profile}{band}"
