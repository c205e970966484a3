"""Names of 64 bits for what is compared, so that repeats can be counted as numbers.

Two different things share a name about never: one pair is expected among six billion.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.sources.spill import name_bytes

Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_ODD = np.uint64(0x9E3779B97F4A7C15)


def mixed(keys: npt.NDArray[Any]) -> Keys:
    """Return keys with every bit depending on many others, the high ones too."""
    found = np.asarray(keys, dtype=np.uint64)
    for _ in range(2):
        found = (found ^ (found >> np.uint64(32))) * _ODD
    return found ^ (found >> np.uint64(29))


def of_hashes(column: pa.ChunkedArray) -> Keys:
    """Return the first 64 bits of hexadecimal SHA-256 sums, 0 for null."""
    if not len(column):
        return np.zeros(0, dtype=np.uint64)
    starts = pc.utf8_slice_codeunits(pc.fill_null(column, "0" * 64), 0, 16)
    joined = bytes.fromhex("".join(starts.to_pylist()))
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64)


def of_ids(column: pa.ChunkedArray) -> Keys:
    """Return the first 64 bits of 128-bit names."""
    return np.ascontiguousarray(name_bytes(column)[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def of_words(column: pa.ChunkedArray) -> Keys:
    """Return a name for each string of a column with few different ones; null is the empty string."""
    coded = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    words = [hashlib.sha256(word.encode()).digest()[:8] for word in coded.dictionary.to_pylist()]
    names = np.frombuffer(b"".join(words), dtype=">u8").astype(np.uint64)
    return names[coded.indices.to_numpy(zero_copy_only=False)] if len(words) else np.zeros(0, dtype=np.uint64)


def counted(keys: Keys, weights: Ints | None = None) -> tuple[Keys, Ints, Ints]:
    """Return (distinct keys in order, how often each is there, where each given key is among them)."""
    distinct, back = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(counts, back, 1 if weights is None else weights)
    return distinct, counts, np.asarray(back, dtype=np.int64)
