"""What a stage is handed: the store, the cluster, its inputs, and the one place it may write."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from infra.cluster import Cluster
from infra.storage import Store, sha256_file
from stages.manifest import File, Ledger, Manifest, ManifestError, Part, canonical, digest_of
from stages.ref import Ref

T = TypeVar("T")
PROGRESS_SECONDS = 1.0
LIGHT_SECONDS = 20.0


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as parquet: fixed writer settings, so the same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6", row_group_size=1 << 16, write_statistics=True)
    return sink.getvalue()


def read_file(store: Store, manifest: Manifest, file: File) -> bytes:
    """Return a published file's bytes, refused where they differ from the manifest.

    Raises:
        ManifestError: The hash differs.
    """
    data = store.read(manifest.key(file))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ManifestError(
            f"{manifest.key(file)} differs from its manifest; `internvl verify {manifest.ref}` lists damage, "
            f"then run stage {manifest.stage} again with --force"
        )
    return data


def read_table(
    store: Store, manifest: Manifest, part: Part, role: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return one parquet file of a part, its hash checked before it is parsed."""
    if role not in part.files:
        raise ManifestError(
            f"part {part.key} of {manifest.ref} has no {role!r}, only {', '.join(sorted(part.files))}; "
            f"stage {manifest.stage} writes it"
        )
    return pq.read_table(
        io.BytesIO(read_file(store, manifest, part.files[role])), columns=list(columns) if columns else None
    )


class Progress:
    """Writes `progress.json` beside the artifact, at most once a second, for the UI and the terminal."""

    def __init__(self, store: Store, ref: Ref) -> None:
        """Start at nothing done."""
        self._store, self._ref = store, ref
        self._started = self._written = time.monotonic()
        self._first = True

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Record how far the stage is; the first and the last record are always written."""
        now = time.monotonic()
        if not self._first and done < total and now - self._written < PROGRESS_SECONDS:
            return
        self._first, self._written = False, now
        seconds = now - self._started
        record = {"done": done, "total": total, "unit": unit, "note": note, "seconds": round(seconds, 1)}
        self._store.write(self._ref.key("progress.json"), json.dumps(record).encode())


@dataclass(frozen=True)
class Output:
    """The one artifact that a stage may write; safe to send to workers."""

    store: Store
    ref: Ref
    stage: str
    identity: dict[str, Any]

    @property
    def config_digest(self) -> str:
        """Hash of everything that decides the result."""
        return digest_of(self.identity)

    def _marker(self, key: str, input_digest: str) -> str:
        return self.ref.key(f"markers/{key}-{self.config_digest[:12]}-{input_digest[:12]}.json")

    def done(self, key: str, input_digest: str) -> Part | None:
        """Return a part that an earlier attempt published from the same input with the same parameters."""
        marker = self._marker(key, input_digest)
        if not self.store.exists(marker):
            return None
        part = Part.model_validate_json(self.store.read(marker))
        whole = all(
            self.store.exists(self.ref.key(file.name)) and self.store.size(self.ref.key(file.name)) == file.bytes
            for file in part.files.values()
        )
        return part if whole and part.input_digest == input_digest else None

    def file(self, name: str, data: bytes | Path) -> File:
        """Publish a file under a name that holds its hash (`a/b.tar` becomes `a/b-<hash>.tar`)."""
        if isinstance(data, Path):
            sha256, size = sha256_file(data), data.stat().st_size
        else:
            sha256, size = hashlib.sha256(data).hexdigest(), len(data)
        stem, dot, suffix = name.rpartition(".")
        final = f"{stem}-{sha256[:16]}.{suffix}" if dot else f"{name}-{sha256[:16]}"
        key = self.ref.key(final)
        # The name holds the hash, so equal size means equal bytes unless the disk lies; `verify` finds that.
        if not (self.store.exists(key) and self.store.size(key) == size):
            self.store.write(key, data)
        return File(name=final, bytes=size, sha256=sha256)

    def part(
        self,
        key: str,
        input_digest: str,
        ledger: Ledger,
        files: Mapping[str, tuple[str, bytes | Path]],
        facts: Mapping[str, Any] | None = None,
    ) -> Part:
        """Publish one part: its files first, then the one marker that makes them count.

        Args:
            key: The part's stable name inside the artifact, such as `000012`.
            input_digest: Hash of the input slice that the part was made from.
            ledger: Where the slice's rows went; asserted.
            files: Role to (file name, bytes or a local path).
            facts: Small JSON that the manifest keeps for this part.

        Returns:
            The part that stands, which may be a rival attempt's equal one.
        """
        ledger.check(f"{self.ref} part {key}")
        part = Part(
            key=key,
            input_digest=input_digest,
            ledger=ledger,
            files={role: self.file(f"parts/{name}", data) for role, (name, data) in sorted(files.items())},
            facts=dict(facts or {}),
        )
        marker = self._marker(key, input_digest)
        if not self.store.create(marker, canonical(part.model_dump(mode="json"))):
            if standing := self.done(key, input_digest):
                return standing
            self.store.write(marker, canonical(part.model_dump(mode="json")))
        return part

    def commit(
        self,
        parts: Iterable[Part],
        ledger: Ledger | None = None,
        totals: Mapping[str, Any] | None = None,
        reports: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> Manifest:
        """Write the manifest, last: from here on the artifact is whole.

        Args:
            parts: All parts; sorted by key here.
            ledger: Of the whole artifact; the sum of the parts' when left out.
            totals: JSON numbers for people and for the next stage (counts, metrics, funnel).
            reports: Role to (file name, bytes) of pages for people.

        Raises:
            LedgerError: The ledger does not close; nothing was committed.
        """
        ordered = tuple(sorted(parts, key=lambda part: part.key))
        whole = ledger if ledger is not None else sum((p.ledger for p in ordered), Ledger(listed=0, kept=0))
        whole.check(str(self.ref))
        manifest = Manifest(
            ref=self.ref,
            stage=self.stage,
            identity=self.identity,
            ledger=whole,
            parts=ordered,
            totals=dict(totals or {}),
            reports={
                role: self.file(f"reports/{name}", data) for role, (name, data) in sorted((reports or {}).items())
            },
        )
        self.store.write(self.ref.key("recipe.json"), json.dumps(self.identity, indent=2, sort_keys=True).encode())
        self.store.write(self.ref.key("manifest.json"), canonical(manifest.model_dump(mode="json")))
        return manifest


@dataclass(frozen=True)
class Placement:
    """Where and how wide a stage runs; never part of a result's identity."""

    workers: int = 1
    gpus_per_worker: int = 0
    cpus_per_task: float = 1.0
    checkpoint_steps: int = 50
    drift_patience_seconds: float = 1800.0


@dataclass
class Workspace:
    """What a stage works with."""

    store: Store
    cluster: Cluster
    scratch: Path
    inputs: dict[str, Manifest] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    progress: Callable[..., None] = lambda *_, **__: None

    def input(self, prefix: str) -> Manifest:
        """Return the one input whose artifact name begins with this path.

        Raises:
            ManifestError: There is none, or more than one.
        """
        found = self.all(prefix)
        if len(found) != 1:
            names = ", ".join(self.inputs) or "nothing"
            raise ManifestError(f"this stage needs exactly one input {prefix!r} and was given {names}")
        return found[0]

    def all(self, prefix: str) -> list[Manifest]:
        """Return all inputs whose artifact name is this path or lies below it, sorted by name."""
        return [
            manifest
            for name, manifest in sorted(self.inputs.items())
            if name == prefix or name.startswith(prefix.rstrip("/") + "/")
        ]

    def map_parts(
        self,
        output: Output,
        work: Callable[[T], Part],
        items: Sequence[tuple[str, str, T]],
        unit: str = "parts",
        light: bool = False,
    ) -> list[Part]:
        """Make all parts on the cluster, skipping those that stand.

        Args:
            output: Where parts are looked up.
            work: Makes and publishes one part; must be picklable and idempotent.
            items: (part key, input digest, what `work` is handed) per part.
            unit: Word for the progress bar.
            light: Parts are so quick that starting workers may take longer. They are made in this process
                for as long as the rest would take less than `LIGHT_SECONDS` at the pace of the last one.

        Returns:
            All parts, sorted by key.
        """
        parts = [part for key, digest, _ in items if (part := output.done(key, digest))]
        standing = {part.key for part in parts}
        todo = [item for key, _, item in items if key not in standing]
        self.progress(len(parts), len(items), unit, f"{len(parts)} stood already" if parts else "")
        pace = 0.0
        while light and todo and not self.placement.gpus_per_worker and pace * len(todo) < LIGHT_SECONDS:
            started = time.monotonic()
            parts.append(work(todo.pop(0)))
            pace = time.monotonic() - started
            self.progress(len(parts), len(items), unit)
        for part in self.cluster.map(
            work, todo, cpus=self.placement.cpus_per_task, gpus=self.placement.gpus_per_worker
        ):
            parts.append(part)
            self.progress(len(parts), len(items), unit)
        return sorted(parts, key=lambda part: part.key)
