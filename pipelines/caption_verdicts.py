"""Judge a whole file of captions in batches, and count: what `internvl judge` shows."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from filters.base import Filter
from filters.bits import BITS, reasons_of
from filters.text import Captions, language
from filters.text.folding import folded_keys, spikes
from filters.verdicts import give
from pipelines.caption_files import CaptionFile

Tell = Callable[[int], None]
"""Called with the number of rows that were just done."""

LONGEST = 2_000
SCHEMA = pa.schema([("row", pa.int64()), ("kept", pa.bool_()), ("reasons", pa.list_(pa.string()))])

# What is counted over the whole file, and what is made of other columns.
_COUNTED = ("caption_frequency", "length_spike")
_FROM_SIZE = ("min_side", "aspect", "pixels")


def judged_by(file: CaptionFile, filters: Sequence[Filter]) -> tuple[list[Filter], dict[str, list[str]]]:
    """Return the filters that the file has the signals for, and the signals that the others lack."""
    there = {"caption", *_COUNTED, *file.signals} | ({"language"} if file.language else set())
    if {"width", "height"} <= there:
        there |= set(_FROM_SIZE)
    missing = {each.reason: [name for name in each.reads if name not in there] for each in filters}
    return [each for each in filters if not missing[each.reason]], {k: v for k, v in missing.items() if v}


class Repeats:
    """How often captions and their lengths occur in the whole file; eight bytes are held per row."""

    def __init__(self, file: CaptionFile, tell: Tell) -> None:
        """Read all captions once."""
        keys, lengths = [], np.zeros(LONGEST + 1, dtype=np.int64)
        for batch in file.batches(signals=False):
            captions = Captions(batch["caption"])
            keys.append(folded_keys(captions))
            lengths += np.bincount(np.minimum(captions.length, LONGEST), minlength=LONGEST + 1)
            tell(len(captions))
        self._keys = np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)
        self._keys.sort()
        self._spikes = spikes(lengths)

    def frequency(self, captions: Captions) -> npt.NDArray[np.float32]:
        """Return how many rows of the file share each caption."""
        keys, back = np.unique(folded_keys(captions), return_inverse=True)
        ends = np.searchsorted(self._keys, keys, side="right")
        return (ends - np.searchsorted(self._keys, keys, side="left")).astype(np.float32)[back]

    def spike(self, captions: Captions) -> npt.NDArray[np.float32]:
        """Return how many times commoner each caption's length is than those around it."""
        return self._spikes[np.minimum(captions.length, LONGEST)]


class Tally:
    """Counts by mask and by language; numbers of rules derive from the masks."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.masks: Counter[int] = Counter()
        self.languages: dict[str, list[int]] = {}
        self.unknown: Counter[str] = Counter()

    def add(self, reasons: npt.NDArray[np.uint64], languages: pa.Array) -> None:
        """Count one batch."""
        values, counts = np.unique(reasons, return_counts=True)
        self.masks.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        names = languages.dictionary_encode() if not pa.types.is_dictionary(languages.type) else languages
        numbers = np.asarray(names.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1
        texts = ["", *(str(name or "") for name in names.dictionary.to_pylist())]
        rows = np.bincount(numbers, minlength=len(texts))
        kept = np.bincount(numbers[reasons == 0], minlength=len(texts))
        for text, some, good in zip(texts, rows.tolist(), kept.tolist(), strict=True):
            if some:
                line = self.languages.setdefault(text or "unknown", [0, 0])
                line[0], line[1] = line[0] + some, line[1] + good

    @property
    def rows(self) -> int:
        """Rows judged."""
        return sum(self.masks.values())

    def total(self, reason: str) -> int:
        """Rows that a rule takes, whatever the others say."""
        return sum(count for mask, count in self.masks.items() if mask >> BITS[reason] & 1)

    def alone(self, reason: str) -> int:
        """Rows that only this rule takes."""
        return self.masks[1 << BITS[reason]]


def judge_file(file: CaptionFile, filters: Sequence[Filter], out: Path | None, tell: Tell, counted: Tell) -> Tally:
    """Apply filters whose signals the file has to all of its rows.

    Args:
        file: What to judge.
        filters: Rules; none may lack a signal.
        out: Where `verdicts.parquet` goes, one line per row of the input, in its order.
        tell: Told of rows judged.
        counted: Told of rows counted, where rules on repeats need a pass of their own.
    """
    reads = {name for each in filters for name in each.reads}
    repeats = Repeats(file, counted) if reads & set(_COUNTED) - set(file.signals) else None
    tally = Tally()
    writer = pq.ParquetWriter(out, SCHEMA, compression="zstd") if out else None
    try:
        for batch in file.batches():
            columns = _with_made_columns(batch, reads, repeats)
            verdicts = give(filters, columns, len(batch["caption"]), measured=False)
            declared = batch.get("language")
            tally.add(verdicts.reasons, language.names(Captions(batch["caption"])) if declared is None else declared)
            tally.unknown.update(verdicts.unknown)
            if writer:
                writer.write_table(_table(verdicts.reasons, tally.rows - len(verdicts.reasons)))
            tell(len(verdicts.reasons))
    finally:
        if writer:
            writer.close()
    return tally


def _with_made_columns(batch: dict[str, Any], reads: set[str], repeats: Repeats | None) -> dict[str, Any]:
    """Return a batch with what is counted over the file, and what follows from width and height."""
    found = dict(batch)
    if repeats:
        captions = Captions(batch["caption"])
        for name, measure in zip(_COUNTED, (repeats.frequency, repeats.spike), strict=True):
            if name in reads and name not in found:
                found[name] = measure(captions)
    if {"width", "height"} <= set(found):
        width, height = found["width"], found["height"]
        short, long = np.minimum(width, height), np.maximum(width, height)
        # A side of nothing was not measured.
        short = np.where(short > 0, short, np.float32(np.nan))
        made = {"min_side": short, "aspect": long / short, "pixels": short * long}
        found |= {name: values for name, values in made.items() if name not in found}
    return found


def _table(reasons: npt.NDArray[np.uint64], first: int) -> pa.Table:
    masks, back = np.unique(reasons, return_inverse=True)
    names = pa.array([reasons_of(int(mask)) for mask in masks], pa.list_(pa.string()))
    rows = pa.array(np.arange(first, first + len(reasons)))
    return pa.table([rows, pa.array(reasons == 0), names.take(pa.array(back))], schema=SCHEMA)
