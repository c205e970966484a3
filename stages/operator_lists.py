"""Lists that an operator brings, one entry a line: text, or parquet with entries in its first column."""

import io
from collections.abc import Iterator

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from stages.manifest import ManifestError
from stages.sources.columns import is_bytes, is_text
from stages.unreadable import reading


def lines_of(path: str) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of each entry of a list, batch by batch; bytes of parquet as hexadecimal.

    Raises:
        ManifestError: It cannot be read, or its first column is neither text nor bytes.
    """
    with reading(path), fsspec.open(path, "rb") as file:
        if not path.lower().endswith(".parquet"):
            for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
                if (word := line.strip()) and not word.startswith("#"):
                    yield number, word
            return
        number = 0
        table = pq.ParquetFile(file)
        _check_readable(path, table.schema_arrow.field(0).type)
        for batch in table.iter_batches(columns=table.schema_arrow.names[:1]):
            for value in batch.column(0).to_pylist():
                number += 1
                if isinstance(value, bytes):
                    # Eight bytes are a perceptual hash, also where their digits look like a number.
                    yield number, f"phash:{value.hex()}" if len(value) == 8 else value.hex()
                elif value is not None:
                    yield number, value.strip()


def _check_readable(path: str, found: pa.DataType) -> None:
    kind = found.value_type if pa.types.is_dictionary(found) else found
    if not (is_text(kind) or is_bytes(kind) or pa.types.is_fixed_size_binary(kind)):
        raise ManifestError(
            f"{path}: its first column holds {found}, not text or bytes; write hashes as hexadecimal digits, a "
            "perceptual hash as 16 of them"
        )
