"""Judge a whole file of captions in batches, and count: what `internvl judge` shows."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from filters.base import Filter
from filters.bits import BITS, reasons_of
from filters.text import language
from filters.text.folding import folded_keys, spikes
from filters.verdicts import alike, give
from pipelines.caption_files import CaptionFile

Tell = Callable[[int], None]
"""Called with the number of rows that were just done."""

LONGEST = 2_000
ROWS_AT_FIRST = 1_000_000
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
        # One array from the start: many small ones would keep the memory between them from being given back.
        keys, filled = np.empty(file.rows or ROWS_AT_FIRST, dtype=np.uint64), 0
        lengths = np.zeros(LONGEST + 1, dtype=np.int64)
        for batch in file.batches(signals=False):
            mine, sizes = _keys_and_lengths(batch["caption"])
            if filled + len(mine) > len(keys):
                keys = np.resize(keys, max(2 * len(keys), filled + len(mine)))
            keys[filled : filled + len(mine)] = mine
            filled += len(mine)
            lengths += np.bincount(sizes, minlength=LONGEST + 1)
            tell(len(mine))
        self._keys = keys[:filled]
        self._keys.sort()
        self._spikes = spikes(lengths)

    def columns(self, captions: pa.Array) -> dict[str, npt.NDArray[np.float32]]:
        """Return how many rows of the file share each caption, and how common its length is among others."""
        mine, sizes = _keys_and_lengths(captions)
        keys, back = np.unique(mine, return_inverse=True)
        ends = np.searchsorted(self._keys, keys, side="right")
        shared = (ends - np.searchsorted(self._keys, keys, side="left")).astype(np.float32)[back]
        return {"caption_frequency": shared, "length_spike": self._spikes[sizes]}


def _keys_and_lengths(captions: pa.Array) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return what captions are compared by, and their lengths up to `LONGEST`, shape (rows,) each."""
    keys, sizes = np.zeros(len(captions), dtype=np.uint64), np.zeros(len(captions), dtype=np.int64)
    for rows, batch in alike({"caption": captions}, len(captions)):
        keys[rows], sizes[rows] = folded_keys(batch.captions), np.minimum(batch.captions.length, LONGEST)
    return keys, sizes


def _guessed(captions: pa.Array) -> pa.DictionaryArray:
    """Return languages guessed from captions, "" where unknown."""
    found = np.zeros(len(captions), dtype=np.int32)
    for rows, batch in alike({"caption": captions}, len(captions)):
        found[rows] = language.guessed(batch.captions)
    return pa.DictionaryArray.from_arrays(pa.array(found), pa.array(language.NAMES))


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
        out: Where `verdicts.parquet` goes, one line per row of the input, in its order; what lies there is replaced
            when all rows are judged.
        tell: Told of rows judged.
        counted: Told of rows counted, where rules on repeats need a pass of their own.
    """
    reads = {name for each in filters for name in each.reads}
    repeats = Repeats(file, counted) if reads & set(_COUNTED) - set(file.signals) else None
    tally = Tally()
    with _written(out) as writer:
        for batch in file.batches():
            columns = with_made_columns(batch, repeats)
            verdicts = give(filters, columns, len(batch["caption"]), measured=False)
            declared = batch.get("language")
            tally.add(verdicts.reasons, _guessed(batch["caption"]) if declared is None else declared)
            tally.unknown.update(verdicts.unknown)
            if writer:
                writer.write_table(_table(verdicts.reasons, tally.rows - len(verdicts.reasons)))
            tell(len(verdicts.reasons))
    return tally


@contextmanager
def _written(out: Path | None) -> Iterator[pq.ParquetWriter | None]:
    """Give a writer beside a file, which takes the file's place at the end, and is gone after an error."""
    if out is None:
        yield None
        return
    beside = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with pq.ParquetWriter(beside, SCHEMA, compression="zstd") as writer:
            yield writer
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)


def with_made_columns(batch: dict[str, Any], repeats: Repeats | None) -> dict[str, Any]:
    """Return a batch with what is counted over the file, and what follows from width and height."""
    found = dict(batch)
    if repeats:
        found = repeats.columns(batch["caption"]) | found
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
