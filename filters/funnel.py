"""Which rule took what: every rule sees every row, and counts add up across workers.

A row's mask has one bit per reason; 0 is kept. All numbers of a report derive from how
often each mask occurred, so order of rules and of rows never matters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from filters.base import Columns, Filter
from filters.bits import BITS, reasons_of
from filters.verdicts import Look, give

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


class Counts(BaseModel):
    """Rows by reason mask; numbers of rules derive from them."""

    model_config = ConfigDict(frozen=True)

    masks: dict[int, int] = Field(default_factory=dict)

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


class Funnel(Counts):
    """Counts by mask, whole and by language; `Funnel()` is zero and `+` is associative and commutative."""

    unknown: dict[str, int] = Field(default_factory=dict)
    by_language: dict[str, Counts] = Field(default_factory=dict)
    histograms: dict[str, Histogram] = Field(default_factory=dict)

    @property
    def languages(self) -> dict[str, tuple[int, int]]:
        """Rows and kept rows of each language."""
        return {name: (counts.samples, counts.kept) for name, counts in self.by_language.items()}

    @property
    def masks_by_language(self) -> dict[str, Mapping[int, int]]:
        """Rows by mask of each language, in the order of names."""
        return {name: counts.masks for name, counts in sorted(self.by_language.items())}

    def __add__(self, other: "Funnel") -> "Funnel":
        """Merge two funnels over disjoint rows."""
        histograms = dict(self.histograms)
        for name, histogram in other.histograms.items():
            histograms[name] = histograms[name] + histogram if name in histograms else histogram
        nothing = Counts()
        return Funnel(
            masks=_add(self.masks, other.masks),
            unknown=_add(self.unknown, other.unknown),
            by_language={
                name: Counts(
                    masks=_add(self.by_language.get(name, nothing).masks, other.by_language.get(name, nothing).masks)
                )
                for name in sorted({*self.by_language, *other.by_language})
            },
            histograms=dict(sorted(histograms.items())),
        )


def _add(one: Mapping[Any, int], other: Mapping[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


def judge(
    filters: Sequence[Filter], columns: Columns, samples: int, also: Look | None = None
) -> tuple[npt.NDArray[np.uint64], Funnel]:
    """Apply all filters to all rows.

    Args:
        filters: Rules; their order does not change the result.
        columns: Signals by name, each of `samples` rows.
        samples: Rows.
        also: Shown every batch, while its captions are measured.

    Returns:
        The reason mask of each row, shape (samples,), and the funnel over them.
    """
    found = give(filters, columns, samples, also=also)
    reasons = found.reasons
    masks, numbers = _numbered(reasons)
    return reasons, Funnel(
        masks=_counts(masks, np.bincount(numbers, minlength=len(masks))),
        unknown=found.unknown,
        by_language=_by_language(columns.get("language"), masks, numbers),
        histograms={
            each.reason: _histogram(each, found.measures[each.reason], reasons)
            for each in sorted(filters, key=lambda f: f.reason)
            if each.reason in found.measures and each.reason in _EDGES
        },
    )


def grouped(column: pa.Array | None, samples: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return names in order, and which of them each row has, shape (samples,); without one it is `unknown`."""
    if column is None:
        return ["unknown"], np.zeros(samples, dtype=np.int64)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = [*(str(text or "unknown") for text in coded.dictionary.to_pylist()), "unknown"]
    codes = np.asarray(coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False), dtype=np.int64)
    seen = np.bincount(codes, minlength=len(texts)) > 0
    names = sorted({text for text, here in zip(texts, seen, strict=True) if here})
    places = np.array([names.index(text) if here else 0 for text, here in zip(texts, seen, strict=True)])
    return names, places[codes]


def _numbered(reasons: npt.NDArray[np.uint64]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return the masks that occur, and which of them each row has; by hash, which is quicker than to sort."""
    coded = pa.array(reasons).dictionary_encode()
    return coded.dictionary.to_pylist(), np.asarray(coded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _counts(masks: list[int], rows: npt.NDArray[np.int64]) -> dict[int, int]:
    return dict(sorted((mask, count) for mask, count in zip(masks, rows.tolist(), strict=True) if count))


def _by_language(language: pa.Array | None, masks: list[int], numbers: npt.NDArray[np.int64]) -> dict[str, Counts]:
    if language is None or not masks:
        return {}
    names, places = grouped(language, len(numbers))
    rows = np.bincount(places * len(masks) + numbers, minlength=len(names) * len(masks)).reshape(len(names), -1)
    return {name: Counts(masks=_counts(masks, rows[place])) for place, name in enumerate(names)}


# Edges are fixed per rule, so that histograms of different parts can be added.
_EDGES: dict[str, tuple[float, float]] = {
    "clip_similarity": (-0.2, 1.0001),
    "watermark": (0, 1.0001),
    "unsafe": (0, 1.0001),
    "aesthetic": (0, 10),
    "min_side": (0, 640),
    "aspect": (1, 11),
    "image_bytes": (0, 48_000),
    "decoded_share": (0, 1.0001),
    "frames": (0, 120),
    "soft_404": (0, 48),
    "caption_length": (0, 200),
    "duplicates": (0, 48),
    "eval_overlap": (0, 1.0001),
    "length_units": (0, 40),
    "completeness": (0, 20),
    "gibberish": (-8, 0),
    "boilerplate": (0, 1.0001),
    "error_message": (0, 1.0001),
    "placeholder": (0, 1.0001),
    "source_code": (0, 8),
    "offensive": (0, 8),
    "special_characters": (0, 1.0001),
    "letter_share": (0, 1.0001),
    "digit_share": (0, 1.0001),
    "upper_share": (0, 1.0001),
    "keyword_stuffing": (0, 24),
    "repetition": (0, 1.0001),
    "readability": (0, 16),
    "caption_frequency": (0, 48),
    "near_duplicates": (0, 48),
    "truncated": (0, 24),
}


def _histogram(each: Filter, measured: npt.NDArray[np.float32], reasons: npt.NDArray[np.uint64]) -> Histogram:
    low, high = _EDGES[each.reason]
    known = ~np.isnan(measured)
    others = (reasons & ~np.uint64(1 << BITS[each.reason])) == 0
    # The last bin takes what lies beyond, so that no row is missing from the picture.
    inside = np.clip(measured if known.all() else measured[known], low, np.nextafter(high, low))
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    bins = ((inside - low) * (HISTOGRAM_BINS / (high - low))).astype(np.int64)
    # By its quotient a number that lies on an edge, or next to it, may come into the wrong one of two bins.
    bins -= inside < edges[bins]
    bins += inside >= edges[bins + 1]
    counts = np.bincount(bins * 2 + others[known], minlength=2 * HISTOGRAM_BINS).reshape(-1, 2)
    return Histogram(
        low=low, high=high, all=tuple(counts.sum(axis=1).tolist()), others_keep=tuple(counts[:, 1].tolist())
    )
