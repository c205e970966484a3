"""Asking again: what an earlier version of a pool holds, which of its rows are due, and what is kept of them."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from infra.storage import Store
from stages.blocking import BlockList
from stages.fetching import Storing
from stages.manifest import Manifest, ManifestError, Part
from stages.outcome import REJECTED, TRANSIENT, Outcome
from stages.tars import read_tar
from stages.workspace import read_file, read_table

Row = dict[str, Any]
Members = dict[str, bytes]
AGAIN = TRANSIENT | {Outcome.FETCHED}
"""What may be asked for again; everything else is final."""


@dataclass
class Earlier:
    """One part of the earlier version; without one, every row is due for the first time."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    pictures: dict[str, Members] = field(default_factory=dict)
    retry: frozenset[str] = frozenset()
    facts: Counter[str] = field(default_factory=Counter)

    def due(self, uid: bytes) -> bool:
        """Say whether a row is asked for in this pass."""
        row = self.rows.get(uid)
        return row is None or row["outcome"] in self.retry

    def attempt(self, uid: bytes) -> int:
        """Return the number of this pass for a row that is due, from 1."""
        row = self.rows.get(uid)
        return 1 if row is None else row["attempt"] + 1

    def first(self, uid: bytes) -> str | None:
        """Return the hash of the body that a row was first fetched with, None where it never was."""
        row = self.rows.get(uid)
        return None if row is None else row["first_sha256"]

    def stands(self, uid: bytes, outcome: Outcome) -> bool:
        """Say whether a row keeps its earlier picture: it could not be fetched this time, and no rule forbids it.

        Counts those that do. An owner's new refusal and an operator's new block take the picture away.
        """
        row = self.rows.get(uid)
        if row is None or row["outcome"] != Outcome.FETCHED or outcome in REJECTED | {Outcome.FETCHED}:
            return False
        self.facts["kept"] += 1
        return True

    def carried(self, uid: bytes, blocked: BlockList) -> tuple[Row, Members | None]:
        """Return a row and its picture as they stand; a picture that was blocked meanwhile is dropped."""
        row, members = self.rows[uid], self.pictures.get(uid.hex())
        if members and (blocked.body(row["body_sha256"]) or blocked.picture(row["phash"])):
            stored = ("width", "height", "bytes", "sha256")
            return {**row, "outcome": str(Outcome.BLOCKED), **dict.fromkeys(stored)}, None
        return row, members

    def changed(self, uid: bytes, body_sha256: str | None) -> bool:
        """Say whether a row that was fetched before has another body than at first; counts both answers."""
        row = self.rows.get(uid)
        if row is None or row["outcome"] != Outcome.FETCHED:
            return False
        found = bool(row["first_sha256"] != body_sha256)
        self.facts["changed" if found else "same"] += 1
        return found


def earlier_of(store: Store, manifest: Manifest | None, key: str, retry: Collection[str]) -> Earlier:
    """Return an earlier version's part by its key, nothing where there is no earlier version."""
    if manifest is None:
        return Earlier()
    part = next(part for part in manifest.parts if part.key == key)
    rows = {row["uid"]: row for row in read_table(store, manifest, part, "outcomes").to_pylist()}
    for row in rows.values():
        # Where an older pool does not tell, what it holds is the first that is known.
        row.setdefault("first_sha256", row["body_sha256"] if row["outcome"] == Outcome.FETCHED else None)
    pictures = dict(read_tar(read_file(store, manifest, part.files["pictures"])))
    return Earlier(rows, pictures, frozenset(str(each) for each in retry))


def refuse_unfit(earlier: Manifest, listing: Manifest, storing: Storing) -> None:
    """Raise ManifestError unless an earlier version was made from this very list, with pictures of this size."""
    if earlier.identity["inputs"].get(listing.ref.name) != listing.digest:
        raise ManifestError(
            f"{earlier.ref} was made from another version of {listing.ref.name} than {listing.ref}; a later pass "
            "needs the same list: name that version, or download the new list from the start"
        )
    # What a pool from before a setting was there does not say, it did as the default does.
    made = Storing().model_dump(mode="json") | earlier.identity["parameters"]
    now = storing.model_dump(mode="json", include=set(Storing.model_fields))
    if unlike := [name for name in now if name != "threads" and made.get(name) != now[name]]:
        raise ManifestError(
            f"{earlier.ref} stores pictures with another {', '.join(unlike)}; a later pass carries its pictures "
            f"over as they are: give the same, {', '.join(f'{name}={made.get(name)}' for name in unlike)}"
        )
    standing = {part.key for part in earlier.parts}
    missing: list[Part] = [part for part in listing.parts if part.key not in standing]
    if missing:
        raise ManifestError(f"{earlier.ref} has no part {missing[0].key} of {listing.ref}; run it again with --force")
