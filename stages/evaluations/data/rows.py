"""One example of a dataset before its pictures are read: where their bytes lie, and what is true of them."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from stages.evaluations.base import Question

LARGEST = 4 << 30
"""Most bytes of one picture or video."""
_HELD = 512 << 20
"""Bytes of one column of a row group that are kept while its cells are read; larger groups are streamed."""
_BATCH = 32


class Body(Protocol):
    """Where the bytes of one picture, video or mask lie."""

    @property
    def file(self) -> Path:
        """Return the file that holds them."""
        ...

    @property
    def position(self) -> str:
        """Return where in the file they are; empty where they are all of it."""
        ...

    def read(self) -> bytes:
        """Return them.

        Raises:
            OSError: They cannot be read.
        """
        ...


class FileBody(NamedTuple):
    """A whole file."""

    file: Path
    position: str = ""

    def read(self) -> bytes:
        """Return all of it."""
        if (size := os.stat(self.file).st_size) > LARGEST:
            raise OSError(f"it has {size:,} bytes, more than {LARGEST:,}")
        return self.file.read_bytes()


class StretchBody(NamedTuple):
    """A stretch of an archive."""

    file: Path
    offset: int
    size: int

    @property
    def position(self) -> str:
        """Return where the stretch begins and how long it is."""
        return f"{self.offset}+{self.size}"

    def read(self) -> bytes:
        """Return the stretch."""
        if self.size > LARGEST:
            raise OSError(f"it has {self.size:,} bytes, more than {LARGEST:,}")
        with self.file.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise OSError(f"the archive ends {self.size - len(data):,} bytes before its end")
        return data


class CellBody(NamedTuple):
    """A cell of a parquet file: bytes, or a struct with `bytes` as Hugging Face's datasets write it."""

    cells: "Cells"
    column: str
    row: int

    @property
    def file(self) -> Path:
        """Return the parquet file."""
        return self.cells.path

    @property
    def position(self) -> str:
        """Return the column and the row."""
        return f"{self.column}[{self.row}]"

    def read(self) -> bytes:
        """Return what the cell holds."""
        value = self.cells.value(self.column, self.row)
        found = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(found, bytes) or not found:
            raise OSError("the cell is empty")
        return found


class Cells:
    """Cells of a parquet file, read by row group: one column of one group is held, never the file."""

    def __init__(self, path: Path) -> None:
        """Look at the file's footer only."""
        self.path = path
        self._file = pq.ParquetFile(path)
        sizes = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self._held: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._stream: tuple[tuple[str, int], int, Iterator[pa.RecordBatch], pa.RecordBatch] | None = None
        # The check of all pictures reads with several threads.
        self._lock = threading.Lock()

    def value(self, column: str, row: int) -> Any:
        """Return one cell."""
        group = next(number for number in range(len(self._starts) - 1) if row < self._starts[number + 1])
        within = row - self._starts[group]
        with self._lock:
            if self._bytes(column, group) > _HELD:
                return self._streamed(column, group, within)
            return self._group(column, group)[within].as_py()

    def _bytes(self, column: str, group: int) -> int:
        about = self._file.metadata.row_group(group)
        chunks = (about.column(number) for number in range(about.num_columns))
        return sum(each.total_uncompressed_size for each in chunks if each.path_in_schema.split(".")[0] == column)

    def _group(self, column: str, group: int) -> pa.ChunkedArray:
        place = column, group
        if place not in self._held:
            # One group of each column that is read in turn (a picture and its mask), not more.
            for other in [each for each in self._held if each[0] == column]:
                del self._held[other]
            self._held[place] = self._file.read_row_group(group, columns=[column])[column]
        return self._held[place]

    def _streamed(self, column: str, group: int, within: int) -> Any:
        """Return a cell of a group too large to hold: reading goes forward, and begins again for a cell before."""
        if self._stream is None or self._stream[0] != (column, group) or within < self._stream[1]:
            batches = self._file.iter_batches(_BATCH, row_groups=[group], columns=[column])
            self._stream = (column, group), 0, batches, next(batches)
        _, start, batches, batch = self._stream
        while within >= start + batch.num_rows:
            start, batch = start + batch.num_rows, next(batches)
        self._stream = (column, group), start, batches, batch
        return batch[column][within - start].as_py()


class Row(NamedTuple):
    """One example."""

    key: str
    bodies: tuple[Body, ...] = ()
    """Its pictures, or its one video."""
    labels: tuple[int, ...] = ()
    """All classes that count as right; the first is *the* label."""
    captions: tuple[str, ...] = ()
    question: Question | None = None
    mask: Body | None = None
    video: bool = False
    clip: tuple[float, float] | None = None
    """First and last second of a video that the example is about."""
    group: str = ""
    """Examples of one group stay together when only some are taken: both questions about a picture of MME."""


class Found(NamedTuple):
    """What a reader found."""

    rows: list[Row]
    classes: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    """What the dataset itself calls the classes: ImageNet's wnids."""
    templates: tuple[str, ...] = ()
    """Prompts that lie beside the data."""
    notes: tuple[str, ...] = ()
