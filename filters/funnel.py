"""Which rule took what: every rule sees every row, and counts add up across workers.

A row's mask has one bit per reason; 0 is kept. All numbers of a report derive from how
often each mask occurred, so order of rules and of rows never matters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from filters.base import Columns, Filter
from filters.bits import BITS, reasons_of
from filters.verdicts import give

HISTOGRAM_BINS = 40

# Listed, after the light step, after the strict step, in millions of pairs
# (arXiv:2312.14238, Table 2). Losses of the first step include failed downloads.
PAPER: dict[str, tuple[float, float, float]] = {
    "laion_en": (2320, 1940, 91),
    "laion_coco": (663, 550, 550),
    "coyo": (747, 535, 200),
    "cc12m": (12.4, 11.1, 11.1),
    "cc3m": (3.0, 2.6, 2.6),
    "sbu": (1.0, 1.0, 1.0),
    "wukong": (100, 69.4, 69.4),
    "laion_multi": (2260, 1870, 100),
}
PAPER_TOTAL = (6030, 4980, 1030)


class Histogram(BaseModel):
    """Counts between fixed edges, for all rows and for those that every other rule keeps."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    all: tuple[int, ...]
    others_keep: tuple[int, ...]

    def __add__(self, other: "Histogram") -> "Histogram":
        """Add bin by bin.

        Raises:
            ValueError: The edges differ.
        """
        if (self.low, self.high) != (other.low, other.high):
            raise ValueError("histograms with different edges cannot be added")
        return Histogram(
            low=self.low,
            high=self.high,
            all=tuple(a + b for a, b in zip(self.all, other.all, strict=True)),
            others_keep=tuple(a + b for a, b in zip(self.others_keep, other.others_keep, strict=True)),
        )


class Funnel(BaseModel):
    """Counts by mask; `Funnel()` is zero and `+` is associative and commutative."""

    model_config = ConfigDict(frozen=True)

    masks: dict[int, int] = Field(default_factory=dict)
    unknown: dict[str, int] = Field(default_factory=dict)
    languages: dict[str, tuple[int, int]] = Field(default_factory=dict, description="language -> (rows, kept)")
    histograms: dict[str, Histogram] = Field(default_factory=dict)

    def __add__(self, other: "Funnel") -> "Funnel":
        """Merge two funnels over disjoint rows."""
        languages = {
            name: (
                self.languages.get(name, (0, 0))[0] + other.languages.get(name, (0, 0))[0],
                self.languages.get(name, (0, 0))[1] + other.languages.get(name, (0, 0))[1],
            )
            for name in sorted({*self.languages, *other.languages})
        }
        histograms = dict(self.histograms)
        for name, histogram in other.histograms.items():
            histograms[name] = histograms[name] + histogram if name in histograms else histogram
        return Funnel(
            masks=_add(self.masks, other.masks),
            unknown=_add(self.unknown, other.unknown),
            languages=languages,
            histograms=dict(sorted(histograms.items())),
        )

    @property
    def samples(self) -> int:
        """Rows judged."""
        return sum(self.masks.values())

    @property
    def kept(self) -> int:
        """Rows that no rule took."""
        return self.masks.get(0, 0)

    def total(self, reason: str) -> int:
        """Rows that a rule hits, whatever the others say."""
        return sum(count for mask, count in self.masks.items() if mask >> BITS[reason] & 1)

    def alone(self, reason: str) -> int:
        """Rows that only this rule hits: what comes back when it is switched off."""
        return self.masks.get(1 << BITS[reason], 0)

    def first(self, reason: str, order: Sequence[str]) -> int:
        """Rows that this rule hits and no earlier one of the given order."""
        earlier = sum(1 << BITS[name] for name in order[: list(order).index(reason)])
        bit = 1 << BITS[reason]
        return sum(count for mask, count in self.masks.items() if mask & bit and not mask & earlier)

    def both(self, one: str, other: str) -> int:
        """Rows that two rules hit."""
        bits = 1 << BITS[one] | 1 << BITS[other]
        return sum(count for mask, count in self.masks.items() if mask & bits == bits)

    def commonest(self, most: int = 7) -> list[tuple[list[str], int]]:
        """Return the commonest combinations of reasons with their counts."""
        ordered = sorted(((m, c) for m, c in self.masks.items() if m), key=lambda item: (-item[1], item[0]))
        return [(reasons_of(mask), count) for mask, count in ordered[:most]]


def _add(one: Mapping[Any, int], other: Mapping[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


def judge(filters: Sequence[Filter], columns: Columns, samples: int) -> tuple[npt.NDArray[np.uint64], Funnel]:
    """Apply all filters to all rows.

    Args:
        filters: Rules; their order does not change the result.
        columns: Signals by name, each of `samples` rows.
        samples: Rows.

    Returns:
        The reason mask of each row, shape (samples,), and the funnel over them.
    """
    found = give(filters, columns, samples)
    reasons = found.reasons
    values, counts = np.unique(reasons, return_counts=True)
    languages = _by_language(columns.get("language"), reasons)
    return reasons, Funnel(
        masks={int(mask): int(count) for mask, count in zip(values, counts, strict=True)},
        unknown=found.unknown,
        languages=languages,
        histograms={
            each.reason: _histogram(each, found.measures[each.reason], reasons)
            for each in sorted(filters, key=lambda f: f.reason)
            if each.reason in found.measures and each.reason in _EDGES
        },
    )


def _by_language(language: pa.Array | None, reasons: npt.NDArray[np.uint64]) -> dict[str, tuple[int, int]]:
    if language is None:
        return {}
    names = [name or "unknown" for name in language.to_pylist()]
    rows, kept = Counter(names), Counter(n for n, mask in zip(names, reasons, strict=True) if not mask)
    return {name: (rows[name], kept[name]) for name in sorted(rows)}


# Edges are fixed per rule, so that histograms of different parts can be added.
_EDGES: dict[str, tuple[float, float]] = {
    "clip_similarity": (-0.2, 1.0),
    "watermark": (0, 1),
    "unsafe": (0, 1),
    "aesthetic": (0, 10),
    "min_side": (0, 512),
    "aspect": (1, 9),
    "image_bytes": (0, 40_000),
    "caption_length": (0, 200),
    "duplicates": (0, 40),
    "eval_overlap": (0, 1.0001),
    "length_units": (0, 40),
    "completeness": (0, 20),
    "boilerplate": (0, 1.0001),
    "special_characters": (0, 1.0001),
    "keyword_stuffing": (0, 20),
    "caption_frequency": (0, 40),
}


def _histogram(each: Filter, measured: npt.NDArray[np.float32], reasons: npt.NDArray[np.uint64]) -> Histogram:
    low, high = _EDGES[each.reason]
    # The last bin takes what lies beyond, so that no row is missing from the picture.
    inside = np.clip(measured, low, np.nextafter(high, low))
    others = (reasons & ~np.uint64(1 << BITS[each.reason])) == 0
    known = ~np.isnan(measured)

    def binned(rows: npt.NDArray[np.bool_]) -> tuple[int, ...]:
        counts, _ = np.histogram(inside[rows], bins=HISTOGRAM_BINS, range=(low, high))
        return tuple(int(count) for count in counts)

    return Histogram(low=low, high=high, all=binned(known), others_keep=binned(known & others))
