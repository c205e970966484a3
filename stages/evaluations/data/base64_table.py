"""Multiple choice as MMBench gives it out: a TSV whose rows hold their picture in base64.

The file is read once, line by line; pictures stay in it and are decoded when they are asked for.
"""

import base64
import binascii
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stages.evaluations.data.records import question_of
from stages.evaluations.data.rows import Row
from stages.evaluations.registry import Reading
from stages.manifest import ManifestError

_REFERENCE = 64
"""A cell no longer than this is no picture but the index of the row that has it."""
_LONGEST_CELL = 64 << 20
_TURNED = 1_000_000
"""Question 7 with its options in another order is called 1000007, then 2000007: the protocol turns them itself."""


class _Record(NamedTuple):
    cells: dict[str, str]
    offset: int
    size: int


class Base64Body(NamedTuple):
    """The picture in one row of a table."""

    file: Path
    offset: int
    size: int
    column: int

    @property
    def position(self) -> str:
        """Return where the row begins, and the column."""
        return f"{self.offset}+{self.size}[{self.column}]"

    def read(self) -> bytes:
        """Return the decoded cell."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            cells = next(csv.reader(file.read(self.size).decode("utf-8").splitlines(keepends=True), delimiter="\t"))
        try:
            return base64.b64decode(cells[self.column], validate=True)
        except binascii.Error as error:
            raise OSError(f"the cell is no base64: {error}") from None


def read(path: Path, reading: Reading) -> list[Row]:
    """Return the rows of a table, each question once: its copies in which the options are turned are left out.

    Raises:
        ManifestError: It has no such columns, a row is torn, or a picture is that of a row that is not there.
    """
    csv.field_size_limit(_LONGEST_CELL)
    bodies: dict[str, Base64Body] = {}
    waiting: list[tuple[Row, str]] = []
    with path.open("rb") as file:
        names, records = _records(file, path)
        image, index = (reading.columns.get(part, part) for part in ("image", "index"))
        if image not in names or index not in names:
            raise ManifestError(f"{path} has the columns {', '.join(names)}; it needs {index} and {image}")
        for record in records:
            key, cell = record.cells[index], record.cells[image]
            if len(cell) > _REFERENCE:
                bodies[key] = Base64Body(path, record.offset, record.size, names.index(image))
            asked = question_of(
                {name: cell for name, cell in record.cells.items() if name not in (image, "id")}, reading.columns
            )
            waiting.append((Row(key, question=asked), key if len(cell) > _REFERENCE else cell))
    if lost := [key for _, key in waiting if key not in bodies]:
        raise ManifestError(f"{path} has a row with the picture of row {lost[0]!r}, which has none; fetch it again")
    own = {row.key for row, _ in waiting}
    return [row._replace(bodies=(bodies[key],), group=key) for row, key in waiting if not _turned(row.key, own)]


def _turned(key: str, own: set[str]) -> bool:
    """Say whether a row is another's question with its options in another order."""
    return key.isdecimal() and int(key) >= _TURNED and str(int(key) % _TURNED) in own


def _records(file: BinaryIO, path: Path) -> tuple[list[str], Iterator[_Record]]:
    """Return the header, and the records with the place of each; a quoted cell may hold line ends."""
    at = [0]

    def lines() -> Iterator[str]:
        for line in file:
            at[0] += len(line)
            yield line.decode("utf-8")

    rows = csv.reader(lines(), delimiter="\t", strict=True)
    names = next(rows, [])

    def records() -> Iterator[_Record]:
        start = at[0]
        for cells in rows:
            if len(cells) != len(names):
                raise ManifestError(f"the row at byte {start} of {path} has {len(cells)} cells of {len(names)}")
            yield _Record(dict(zip(names, cells, strict=True)), start, at[0] - start)
            start = at[0]

    return names, records()
