"""Files of captions and signals, read in batches: parquet, csv, tsv, jsonl; columns found by the names people use."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from filters.catalogue import FILTERS
from pipelines.terminal import Refusal

ROWS_AT_ONCE = 65_536
CAPTION_NAMES = ("caption", "text", "TEXT", "top_caption", "captions", "alt", "alt_text", "title")
LANGUAGE_NAMES = ("language", "LANGUAGE", "lang", "lang_guess")

# Names under which published sets ship our signals.
SHIPPED = {
    "clip_similarity": ("similarity", "clip_similarity_vitb32", "clip_similarity_vitl14"),
    "watermark": ("pwatermark", "watermark_score"),
    "unsafe": ("punsafe", "nsfw_score_opennsfw2", "nsfw_score_gantman"),
    "aesthetic": ("AESTHETIC_SCORE", "aesthetic_score", "aesthetic_score_laion_v2"),
    "width": ("WIDTH", "original_width"),
    "height": ("HEIGHT", "original_height"),
}
NUMBERS = (
    "width",
    "height",
    *sorted({name for each in FILTERS.values() for name in each.reads} - {"caption", "language"}),
)


class CaptionFile:
    """A file whose rows can be read in batches, more than once.

    Raises:
        Refusal: There is no such file, nobody reads its kind, or no column holds captions.
    """

    def __init__(self, path: Path, caption_column: str | None = None) -> None:
        """Look at the file's columns; rows are read later."""
        self.path = path
        if not path.is_file():
            raise Refusal(f"there is no file {path}")
        self.kind = path.suffix.lstrip(".").lower()
        if self.kind not in ("parquet", "csv", "tsv", "jsonl"):
            raise Refusal(f"{path} is none of parquet, csv, tsv, jsonl by its name; convert it to one of them")
        names, self.rows = self._look()
        self.caption = self._caption(names, caption_column)
        self.language = next((name for name in LANGUAGE_NAMES if name in names), None)
        self.signals: dict[str, str] = {}
        for ours in NUMBERS:
            for name in (ours, *SHIPPED.get(ours, ())):
                if name in names and name != self.caption:
                    self.signals[ours] = name
                    break

    def _look(self) -> tuple[list[str], int | None]:
        """Return the names of all columns, and the number of rows where the file says it."""
        try:
            if self.kind == "parquet":
                file = pq.ParquetFile(self.path)
                return file.schema_arrow.names, file.metadata.num_rows
            if self.kind == "jsonl":
                return self._look_into_lines()
            with csv.open_csv(self.path, parse_options=self._parse) as reader:
                return reader.schema.names, None
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise Refusal(f"{self.path} cannot be read as {self.kind}: {_first_line(error)}") from error

    def _look_into_lines(self) -> tuple[list[str], int]:
        """Return what any line names, and how many lines there are: a line may leave out what it does not know."""
        names: dict[str, None] = {}
        rows = 0
        for _, found in self._objects():
            names.update(dict.fromkeys(found))
            rows += 1
        return list(names), rows

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line from 1, object) of each line of a jsonl file that is not blank."""
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise Refusal(f"{self.path}, line {number}: no JSON object ({error})") from error
                if not isinstance(found, dict):
                    raise Refusal(
                        f"{self.path}, line {number}: a line is no object; each has to be one, with a caption"
                    )
                yield number, found

    @property
    def _parse(self) -> csv.ParseOptions:
        return csv.ParseOptions(delimiter="\t" if self.kind == "tsv" else ",", newlines_in_values=True)

    def _caption(self, names: list[str], wanted: str | None) -> str:
        candidates = (wanted,) if wanted else CAPTION_NAMES
        found = next((name for name in candidates if name in names), None)
        if found is None:
            listed = ", ".join(names) or "none at all"
            missing = f"no column {wanted!r}" if wanted else f"no column of captions ({', '.join(CAPTION_NAMES)})"
            raise Refusal(f"{self.path} has {missing}; its columns are {listed}; name one with --caption-column")
        return found

    def batches(self, signals: bool = True) -> Iterator[dict[str, Any]]:
        """Return columns by our names, batch by batch: `caption`, `language` where there is one, and numbers.

        Args:
            signals: Whether more than captions is needed.
        """
        wanted = {"caption": self.caption}
        if signals:
            wanted |= self.signals | ({"language": self.language} if self.language else {})
        first = 0
        try:
            for batch in self._record_batches(sorted(set(wanted.values()))):
                yield self._columns(batch, wanted)
                first += len(batch)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
            raise Refusal(f"{self.path}, after row {first:,}: {_first_line(error)}") from error

    def _record_batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        if self.kind == "parquet":
            file = pq.ParquetFile(self.path)
            # One by one: asked for all of them at once, Arrow keeps what it has read of each.
            for group in range(file.num_row_groups):
                yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names, row_groups=[group])
        elif self.kind == "jsonl":
            yield from self._json_batches(names)
        else:
            texts = [name for name in (self.caption, self.language) if name in names]
            convert = csv.ConvertOptions(
                include_columns=names,
                column_types={name: pa.string() if name in texts else pa.float64() for name in names},
                strings_can_be_null=False,
                null_values=["", "null", "NULL", "None", "nan", "NaN", "NA"],
            )
            read = csv.ReadOptions(block_size=8 << 20)
            with csv.open_csv(self.path, read, self._parse, convert) as reader:
                yield from reader

    def _json_batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        texts = (self.caption, self.language)
        schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in names])
        rows: list[dict[str, Any]] = []
        for number, found in self._objects():
            rows.append({name: self._value(name, found.get(name), number) for name in names})
            if len(rows) == ROWS_AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, schema)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema)

    def _value(self, name: str, value: Any, number: int) -> str | float | None:
        """Return a value of a jsonl line as text or number, whichever its column holds."""
        if value is None:
            return None
        text = name in (self.caption, self.language)
        try:
            if not text:
                return float(value)
            if isinstance(value, str):
                value.encode()
                return value
        except (TypeError, ValueError, OverflowError):
            pass
        needed = "text" if text else "a number"
        raise Refusal(f"{self.path}, line {number}: {name!r} is not {needed}; write {needed} or null there")

    def _columns(self, batch: pa.RecordBatch, wanted: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for ours, name in wanted.items():
            column = batch.column(name)
            found[ours] = self._text(name, column) if ours in ("caption", "language") else _numbers(name, column)
        return found

    def _text(self, name: str, column: pa.Array) -> pa.StringArray:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = column.type
        if pa.types.is_null(kind):
            return column.cast(pa.string())
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
            raise Refusal(f"{self.path}: column {name!r} is {kind}, not text; name another with --caption-column")
        text = column.cast(pa.string())  # raises where bytes are no UTF-8
        text.validate(full=True)
        return text


def _numbers(name: str, column: pa.Array) -> npt.NDArray[np.float32]:
    """Return a column of numbers; null is "not computed"."""
    found = column.cast(pa.float32(), safe=False)  # safe would refuse whole numbers that get rounded
    return np.asarray(pc.fill_null(found, np.nan).to_numpy(zero_copy_only=False))


def _first_line(error: BaseException) -> str:
    return next(iter(io.StringIO(str(error))), type(error).__name__).strip()
