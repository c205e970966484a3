"""Rows that a page shows, and where they lie: what the gallery hands to the template."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.report.rows import Masks
from stages.report.thumbnails import Thumbnail


@dataclass(frozen=True)
class Shown:
    """One row to look at."""

    uid: str
    caption: str
    language: str
    kept: bool
    measure: float | None = None
    picture: Thumbnail | None = None


@dataclass(frozen=True)
class Edge:
    """What lies on both sides of one rule's threshold, and far from it."""

    reason: str
    dropped: tuple[Shown, ...] = ()
    kept: tuple[Shown, ...] = ()
    deep: tuple[Shown, ...] = ()
    languages: tuple[Shown, ...] = ()
    stricter: tuple[Shown, ...] = ()
    """Kept rows that one stop more would drop."""
    looser: tuple[Shown, ...] = ()
    """Dropped rows that one stop less would keep."""


@dataclass(frozen=True)
class Gallery:
    """All edges of one source, and the counts by language that were read on the way."""

    edges: tuple[Edge, ...] = ()
    languages: Mapping[str, Masks] = field(default_factory=dict)
    rows: int = 0
    looked_at: int = 0
