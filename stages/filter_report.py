"""The page that a person reads before spending GPU hours, and its short version as markdown.

What is on it lives in `stages.report`; here is what the filter stage calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filters.cube import Cube
from filters.funnel import Funnel
from filters.policies import Policy
from stages.planted import Counts
from stages.report.applying import Applying
from stages.report.difference import Difference
from stages.report.hosts import Host
from stages.report.markdown import markdown_of
from stages.report.model import Page
from stages.report.page import TEMPLATES, html_of
from stages.report.paper import BAND
from stages.report.reviews import Review
from stages.report.rows import SourceRows
from stages.report.shown import Edge, Gallery, Shown
from stages.report.text import share, visible
from stages.report.thumbnails import thumbnail

__all__ = ["TEMPLATES", "Pictured", "page_of", "render", "share", "summary", "visible"]


@dataclass(frozen=True)
class Pictured:
    """One sample to look at; `jpg` is None where the picture must not be shown."""

    label: str
    caption: str
    jpg: bytes | None


def render(
    *,
    source: str,
    policy: Policy,
    funnel: Funnel,
    listed: int,
    fetched: int,
    outcomes: Mapping[str, int],
    provenance: Mapping[str, str],
    pictured: Sequence[Pictured] = (),
    planted: Mapping[str, Counts] | None = None,
    planted_outcomes: Mapping[str, Counts] | None = None,
    cube: Cube | None = None,
    gallery: Gallery | None = None,
    reviews: Sequence[Review] = (),
    changes: Sequence[Difference] = (),
    hosts: Sequence[Host] = (),
    band: float = BAND,
    applying: Applying | None = None,
) -> str:
    """Return one self-contained page about one source under one policy; captions are hostile text and are escaped.

    Args:
        source: The source's name.
        policy: The rules that judged it.
        funnel: Counts by mask.
        listed: Rows listed.
        fetched: Rows whose picture was fetched and decodes.
        outcomes: Rows by outcome of the download; empty where it does not say.
        provenance: Where the numbers come from, by name; `artifact` is the verdicts' reference.
        pictured: A few samples, where there is no gallery; nobody scored them here, so they are pixelated.
        planted: Precision and recall of rules against what the source planted, where it tells.
        planted_outcomes: The same of the download's outcomes.
        cube: Joint counts of all stops, for the sliders.
        gallery: Rows at the edge and counts by language, from `stages.report.gallery.gallery_of`.
        reviews: What people answered to shown rows.
        changes: Differences from another run.
        hosts: Hosts by rows lost, from `stages.report.hosts.hosts_of`.
        band: How far a strict source may lie from the paper's share, relative to it.
        applying: How moved thresholds are applied, from `stages.report.applying.applying_of`; None where that
            cannot be.

    Raises:
        ManifestError: The counts do not add up.
    """
    shown = gallery or Gallery(edges=_edges(pictured))
    rows = SourceRows(source, policy, funnel, listed, fetched, dict(outcomes), cube, shown.languages)
    return page_of(
        [rows],
        provenance=provenance,
        galleries={source: shown},
        reviews=reviews,
        changes=changes,
        hosts=hosts,
        planted=planted,
        planted_outcomes=planted_outcomes,
        band=band,
        applying={source: applying} if applying else {},
    )


def page_of(
    sources: Sequence[SourceRows],
    *,
    provenance: Mapping[str, str],
    galleries: Mapping[str, Gallery],
    reviews: Sequence[Review] = (),
    changes: Sequence[Difference] = (),
    hosts: Sequence[Host] = (),
    planted: Mapping[str, Counts] | None = None,
    planted_outcomes: Mapping[str, Counts] | None = None,
    band: float = BAND,
    drawn: bool = False,
    applying: Mapping[str, Applying] | None = None,
) -> str:
    """Return one page about one source or several of one policy; with several, the flow between them is drawn."""
    return html_of(
        Page(
            sources=tuple(sources),
            provenance=provenance,
            galleries=galleries,
            reviews=tuple(reviews),
            changes=tuple(changes),
            hosts=tuple(hosts),
            planted=planted,
            planted_outcomes=planted_outcomes,
            band=band,
            drawn=drawn,
            applying=applying or {},
        )
    )


def _edges(pictured: Sequence[Pictured]) -> tuple[Edge, ...]:
    """Return plain samples as edges: what each rule dropped, without a threshold between."""
    found: dict[str, list[Shown]] = {}
    for number, sample in enumerate(pictured):
        picture = thumbnail(sample.jpg, None) if sample.jpg else None
        row = Shown(f"{number:032x}", sample.caption, "", sample.label == "kept", picture=picture)
        found.setdefault(sample.label, []).append(row)
    kept = tuple(found.pop("kept", ()))
    return tuple(
        Edge(reason, dropped=tuple(rows), kept=kept if number == 0 else ())
        for number, (reason, rows) in enumerate(found.items())
    )


def summary(
    source: str,
    policy: Policy,
    funnel: Funnel,
    listed: int,
    fetched: int,
    *,
    outcomes: Mapping[str, int] | None = None,
    cube: Cube | None = None,
    languages: Mapping[str, Mapping[int, int]] | None = None,
    planted: Mapping[str, Counts] | None = None,
    version: str = "",
    applying: Applying | None = None,
) -> str:
    """Return the same story as markdown for an artifact: numbers and closed-list words only, under 200 kB."""
    rows = SourceRows(source, policy, funnel, listed, fetched, outcomes or {}, cube, languages or {})
    provenance = {"artifact": f"verdicts@{version}"} if version else {}
    applied = {source: applying} if applying else {}
    return markdown_of(Page(sources=(rows,), provenance=provenance, planted=planted, applying=applied))
