"""How long conversations are in tokens and tiles, found once for each tokenizer and template, kept beside the data.

The data stage knows no tokenizer, and one artifact serves several models; so the first training that asks renders
every conversation once, in one process of a machine, and writes down its size. The other processes, and later starts,
read a column file instead and render only what a batch needs. What cannot be rendered is written down too, with its
reason.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from models.config import ChatConfig
from stages.aside import store_aside
from stages.manifest import Manifest, digest_of
from stages.workspace import Workspace, parquet_bytes

VERSION = 2
"""Of what is measured; a change of the templates or of the tiling raises it."""
Ints = npt.NDArray[np.int32]
COLUMNS = ("tokens", "tiles", "learned")


@dataclass(frozen=True)
class Lengths:
    """One number per sample of an artifact, in its order; 0 where `left_out` says why it cannot be rendered."""

    tokens: Ints
    tiles: Ints
    learned: Ints
    left_out: list[str | None]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int]], left_out: Sequence[str | None]) -> "Lengths":
        """Take (tokens, tiles, learned places) per sample."""
        found = np.array(rows, dtype=np.int32).reshape(-1, 3)
        return cls(found[:, 0], found[:, 1], found[:, 2], list(left_out))

    def table(self) -> pa.Table:
        """Return them as columns."""
        columns = {name: pa.array(getattr(self, name), pa.int32()) for name in COLUMNS}
        return pa.table({**columns, "left_out": pa.array(self.left_out, pa.string()).dictionary_encode()})

    @classmethod
    def read(cls, table: pa.Table) -> "Lengths":
        """Return what `table` holds."""
        tokens, tiles, learned = (table[name].to_numpy().astype(np.int32) for name in COLUMNS)
        return cls(tokens, tiles, learned, table["left_out"].to_pylist())


def key_of(data: Manifest, tokenizer: Tokenizer, config: ChatConfig) -> str:
    """Return where the lengths of an artifact lie for a model: a name of all that decides them."""
    spoken = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    decided = digest_of([VERSION, data.digest, spoken, config.model_dump(mode="json")])
    return data.ref.key(f"lengths/{decided[:32]}.parquet")


def recalled(here: Workspace, key: str, samples: int) -> Lengths | None:
    """Return lengths that were written down, None where they were not, or not for so many samples."""
    try:
        with pa.BufferReader(here.store.read(key)) as file:
            found = Lengths.read(pq.read_table(file))
    except (OSError, pa.ArrowInvalid):  # not there, or damaged: it is found out again
        return None
    return found if len(found.left_out) == samples else None


def write_down(here: Workspace, key: str, lengths: Lengths) -> None:
    """Keep lengths beside the data; a store that does not take them costs the next start its time, no more."""
    store_aside(here.store, key, parquet_bytes(lengths.table()))
