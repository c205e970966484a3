"""What models have said already: arrays and texts in the store, known by the checkpoint, the data and what they are.

They lie under `remembered/<checkpoint>/<data>-<what>.array` or `.texts`, the three being the first 16 digits of
digests: of the checkpoint's manifest, of the examples, and of the name of what was said. All of it can be computed
again, so nothing counts on it: what is damaged or of another version counts for nothing and is overwritten.
`internvl sweep` lists what belongs to checkpoints that are gone; `internvl sweep --artifact remembered` lists all.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from infra.storage import Store
from stages.evaluation_metrics import Floats
from stages.manifest import digest_of

PREFIX = "remembered"
VERSION = 1
"""Raised by hand when models see or say something else for the same pictures."""
DIGITS = 16
Kind = Literal["array", "texts"]


def folder_of(checkpoint: str) -> str:
    """Return the store's folder of what the checkpoint with this manifest digest has said."""
    return f"{PREFIX}/{checkpoint[:DIGITS]}"


class Memory:
    """What one checkpoint has said."""

    def __init__(self, store: Store, checkpoint: str) -> None:
        """Take the digest of the checkpoint's manifest."""
        self._store, self._checkpoint = store, checkpoint

    def key(self, data: str, what: str, kind: Kind = "array") -> str:
        """Return where something lies.

        Args:
            data: Digest of the examples.
            what: Name of what was said, with every setting that changes it.
            kind: Whether it is numbers or texts.
        """
        return f"{folder_of(self._checkpoint)}/{data[:DIGITS]}-{digest_of(what)[:DIGITS]}.{kind}"

    def recall(self, data: str, what: str) -> Floats | None:
        """Return an array as it was kept; None where there is none, or it is not what it says it is."""
        about, content = self._read(data, what, "array")
        try:
            array: Floats = np.frombuffer(content, dtype=about["dtype"]).reshape(about["shape"])
        except (ValueError, KeyError, TypeError):
            return None
        return array if about == self._about(data, what, content, _form(array)) else None

    def keep(self, data: str, what: str, array: Floats) -> None:
        """Keep an array; a reader sees all of it or nothing."""
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        self._write(data, what, "array", content, _form(array))

    def recall_texts(self, data: str, what: str) -> list[str | None] | None:
        """Return texts as they were kept; None where there are none, or they are not what they say they are."""
        about, content = self._read(data, what, "texts")
        if not about or about != self._about(data, what, content, {}):
            return None
        found: list[str | None] = json.loads(content)
        return found

    def keep_texts(self, data: str, what: str, texts: Sequence[str | None]) -> None:
        """Keep texts, in order; a reader sees all of them or nothing."""
        self._write(data, what, "texts", json.dumps(list(texts)).encode(), {})

    def _about(self, data: str, what: str, content: bytes, form: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": VERSION,
            "checkpoint": self._checkpoint,
            "data": data,
            "what": what,
            **form,
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def _read(self, data: str, what: str, kind: Kind) -> tuple[dict[str, Any], bytes]:
        """Return what is told of something and its bytes; nothing of both where it is not there or not readable."""
        try:
            head, _, content = self._store.read(self.key(data, what, kind)).partition(b"\n")
            about = json.loads(head)
        except (FileNotFoundError, ValueError):
            return {}, b""
        return (about, content) if isinstance(about, dict) else ({}, b"")

    def _write(self, data: str, what: str, kind: Kind, content: bytes, form: dict[str, Any]) -> None:
        head = json.dumps(self._about(data, what, content, form), sort_keys=True)
        self._store.write(self.key(data, what, kind), head.encode() + b"\n" + content)


def _form(array: Floats) -> dict[str, Any]:
    return {"dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape)}
