"""What models have said already: arrays in the store, each known by the checkpoint, the data and what it is.

They lie under `remembered/<checkpoint>/<data>-<what>.array`, the three being the first 16 digits of digests: of the
checkpoint's manifest, of the examples, and of the name of the numbers. All of it can be computed again, so nothing
counts on it: what is damaged or of another version counts for nothing and is overwritten. `internvl sweep` lists
what belongs to checkpoints that are gone; `internvl sweep --artifact remembered` lists all.
"""

import hashlib
import json
from typing import Any

import numpy as np

from infra.storage import Store
from stages.evaluation_metrics import Floats
from stages.manifest import digest_of

PREFIX = "remembered"
VERSION = 1
"""Raised by hand when models see or say something else for the same pictures."""
DIGITS = 16


def folder_of(checkpoint: str) -> str:
    """Return the store's folder of what the checkpoint with this manifest digest has said."""
    return f"{PREFIX}/{checkpoint[:DIGITS]}"


class Memory:
    """Arrays of one checkpoint."""

    def __init__(self, store: Store, checkpoint: str) -> None:
        """Take the digest of the checkpoint's manifest."""
        self._store, self._checkpoint = store, checkpoint

    def key(self, data: str, what: str) -> str:
        """Return where an array lies.

        Args:
            data: Digest of the examples.
            what: Name of the numbers, with every setting that changes them.
        """
        return f"{folder_of(self._checkpoint)}/{data[:DIGITS]}-{digest_of(what)[:DIGITS]}.array"

    def _about(self, data: str, what: str, content: bytes, array: Floats) -> dict[str, Any]:
        return {
            "version": VERSION,
            "checkpoint": self._checkpoint,
            "data": data,
            "what": what,
            "dtype": array.dtype.newbyteorder("<").str,
            "shape": list(array.shape),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def recall(self, data: str, what: str) -> Floats | None:
        """Return an array as it was kept; None where there is none, or it is not what it says it is."""
        try:
            head, _, content = self._store.read(self.key(data, what)).partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            about = json.loads(head)
            array: Floats = np.frombuffer(content, dtype=about["dtype"]).reshape(about["shape"])
        except (ValueError, KeyError, TypeError):
            return None
        return array if about == self._about(data, what, content, array) else None

    def keep(self, data: str, what: str, array: Floats) -> None:
        """Keep an array; a reader sees all of it or nothing."""
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        head = json.dumps(self._about(data, what, content, array), sort_keys=True)
        self._store.write(self.key(data, what), head.encode() + b"\n" + content)
