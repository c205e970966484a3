"""The one artifact that a stage may write: files first, then one marker per part, the manifest last."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from infra.failpoints import failpoint
from infra.storage import Store, sha256_file
from stages.fence import Fence
from stages.manifest import (
    File,
    Ledger,
    LedgerError,
    Manifest,
    ManifestError,
    Part,
    digest_of,
    find,
    sealed,
    unsealed,
)
from stages.quarantine import QUARANTINED, listed
from stages.ref import Ref

READERS = 16
"""Markers read at once from a store that answers over a network."""


class Hashed(NamedTuple):
    """A local file whose hash was taken while it was written."""

    path: Path
    sha256: str


Data = bytes | Path | Hashed
"""What a file is published from."""


def held(data: Data) -> bytes | Path:
    """Return the bytes, or the file that holds them."""
    return data.path if isinstance(data, Hashed) else data


@dataclass(frozen=True)
class Output:
    """The one artifact that a stage may write; safe to send to workers."""

    store: Store
    ref: Ref
    stage: str
    identity: dict[str, Any]
    fence: int = 0
    """Number of the lease under which it is made; 0 where none is needed."""

    @property
    def _fence(self) -> Fence:
        return Fence(self.store, self.ref, self.fence)

    @property
    def config_digest(self) -> str:
        """Hash of everything that decides the result."""
        return digest_of(self.identity)

    def _marker(self, key: str, input_digest: str) -> str:
        return self.ref.key(f"markers/{key}-{self.config_digest[:12]}-{input_digest[:12]}.json")

    def done(self, key: str, input_digest: str) -> Part | None:
        """Return a part that an earlier attempt published from the same input with the same parameters."""
        try:
            part = self._counted(self.store.read(self._marker(key, input_digest)), key, input_digest)
        except FileNotFoundError:
            return None
        if part is None:
            return None
        return part if all(self._holds(file.name, file.bytes) for file in part.files.values()) else None

    def _holds(self, name: str, size: int) -> bool:
        try:
            return self.store.size(self.ref.key(name)) == size
        except FileNotFoundError:
            return False

    def standing(self, items: Iterable[tuple[str, str]]) -> list[Part]:
        """Return those of many parts that `done` would return, for the price of one listing.

        Args:
            items: (part key, input digest) per part.
        """
        there = self.store.files(self.ref.folder)
        wanted = [(marker, key, digest) for key, digest in items if (marker := self._marker(key, digest)) in there]

        def read(item: tuple[str, str, str]) -> Part | None:
            marker, key, digest = item
            part = self._counted(self.store.read(marker), key, digest)
            if part is None:
                return None
            whole = all(there.get(self.ref.key(file.name)) == file.bytes for file in part.files.values())
            return part if whole else None

        with ThreadPoolExecutor(READERS if self.store.remote else 1) as readers:
            return [part for part in readers.map(read, wanted) if part is not None]

    @staticmethod
    def _counted(marker: bytes, key: str, input_digest: str) -> Part | None:
        """Return the part of a marker; a torn or foreign one counts as none, and its part is made again."""
        try:
            part = Part.model_validate(unsealed(marker))
            part.ledger.check(f"part {key}")
        except (ValueError, LedgerError):
            return None
        return part if part.key == key and part.input_digest == input_digest else None

    def file(self, name: str, data: Data) -> File:
        """Publish a file under a name that holds its hash (`a/b.tar` becomes `a/b-<hash>.tar`)."""
        content = held(data)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if isinstance(data, Hashed):
            sha256 = data.sha256
        else:
            sha256 = sha256_file(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
        stem, dot, suffix = name.rpartition(".")
        final = f"{stem}-{sha256[:16]}.{suffix}" if dot else f"{name}-{sha256[:16]}"
        key = self.ref.key(final)
        # The name holds the hash, so equal size means equal bytes unless the disk lies; `verify` finds that.
        if self._holds(final, size):
            self.store.touch(key)  # a killed run left it: young again, no sweep takes it before the marker counts it
        else:
            self.store.write(key, content)
        return File(name=final, bytes=size, sha256=sha256)

    def part(
        self,
        key: str,
        input_digest: str,
        ledger: Ledger,
        files: Mapping[str, tuple[str, Data]],
        facts: Mapping[str, Any] | None = None,
    ) -> Part:
        """Publish one part: its files first, then the one marker that makes them count.

        Args:
            key: The part's stable name inside the artifact, such as `000012`.
            input_digest: Hash of the input slice that the part was made from.
            ledger: Where the slice's rows went; asserted.
            files: Role to (file name, bytes or a local file).
            facts: Small JSON that the manifest keeps for this part.

        Returns:
            The part that stands, which may be a rival attempt's equal one.

        Raises:
            LedgerError: The ledger does not close.
            TakenOver: Another run makes this artifact now.
        """
        ledger.check(f"{self.ref} part {key}")
        self._fence.check()
        failpoint("before_part")
        published = {}
        for role, (name, data) in sorted(files.items()):
            failpoint("before_file")
            published[role] = self.file(f"parts/{name}", data)
            failpoint("after_file")
        part = Part(key=key, input_digest=input_digest, ledger=ledger, files=published, facts=dict(facts or {}))
        marker, seal = self._marker(key, input_digest), sealed(part.model_dump(mode="json"))
        failpoint("before_marker")
        if not self.store.create(marker, seal):
            if standing := self.done(key, input_digest):
                return standing
            self.store.write(marker, seal)  # a torn marker, or one whose files went away, counts for nothing
        failpoint("after_marker")
        return part

    def commit(
        self,
        parts: Iterable[Part],
        ledger: Ledger | None = None,
        totals: Mapping[str, Any] | None = None,
        reports: Mapping[str, tuple[str, bytes]] | None = None,
        quarantined: Sequence[Part] = (),
        replaces: Manifest | None = None,
    ) -> Manifest:
        """Write the manifest, last: from here on the artifact is whole.

        Args:
            parts: All parts; sorted by key here.
            ledger: Of the whole artifact; the sum of the parts' when left out.
            totals: JSON numbers for people and for the next stage (counts, metrics, funnel).
            reports: Role to (file name, bytes) of pages for people.
            quarantined: Empty parts for those that could not be made: listed in the totals, their rows as failed.
            replaces: What stands of the artifact until now, all of whose parts are among these.

        Raises:
            LedgerError: The ledger does not close; nothing was committed.
            ManifestError: Another run finished this artifact meanwhile, and differently.
            TakenOver: Another run makes it now.
        """
        ordered = tuple(sorted(parts, key=lambda part: part.key))
        whole = ledger if ledger is not None else sum((p.ledger for p in ordered), Ledger(listed=0, kept=0))
        whole = sum((part.ledger for part in quarantined), whole)
        lacking = {QUARANTINED: listed(quarantined)} if quarantined else {}
        whole.check(str(self.ref))
        manifest = Manifest(
            ref=self.ref,
            stage=self.stage,
            identity=self.identity,
            ledger=whole,
            parts=ordered,
            totals={**(totals or {}), **lacking},
            reports={
                role: self.file(f"reports/{name}", data) for role, (name, data) in sorted((reports or {}).items())
            },
        )
        failpoint("before_manifest")
        self._fence.check()
        self.store.write(self.ref.key("recipe.json"), json.dumps(self.identity, indent=2, sort_keys=True).encode())
        if not self._replace(manifest, replaces):
            raise ManifestError(
                f"{self.ref} was finished by another run meanwhile, with another result; keep that one, give this "
                "one a name of its own (--version NAME), or replace it (--force)"
            )
        failpoint("after_manifest")
        return manifest

    def _replace(self, manifest: Manifest, earlier: Manifest | None) -> bool:
        """Write a manifest in place of an earlier one, or where none is; false where another stands there."""
        key, seal = self.ref.key("manifest.json"), sealed(manifest.model_dump(mode="json"))
        if earlier is None:
            return self.store.create(key, seal)
        # The lease keeps others out; until this one write what stood is whole.
        if find(self.store, self.ref) != earlier:
            return False
        self.store.write(key, seal)
        return True
