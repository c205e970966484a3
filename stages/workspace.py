"""What a stage is handed: the store, the cluster, its inputs, and the one place it may write."""

import hashlib
import io
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from infra.cluster import Cluster
from infra.storage import Store
from stages.aside import store_aside
from stages.fence import Fence
from stages.manifest import File, Manifest, ManifestError, Part
from stages.output import Output
from stages.placement import Placement
from stages.quarantine import Tried, is_quarantined, refuse_more
from stages.ref import Ref

__all__ = [
    "Opened",
    "Output",
    "Placement",
    "Progress",
    "Workspace",
    "damaged",
    "opened_table",
    "parquet_bytes",
    "read_file",
    "read_table",
]

T = TypeVar("T")
PROGRESS_SECONDS = 1.0
RATE_RECORDS = 32
"""Records that a rate is taken over: the pace of now, not of a start long ago."""
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
        data = store.read(manifest.key(file))  # damage on the way is not there the second time
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise damaged(manifest, file)
    return data


def damaged(manifest: Manifest, file: File) -> ManifestError:
    """Return the error about a published file whose bytes are others than its manifest says."""
    return ManifestError(
        f"{manifest.key(file)} differs from its manifest; `internvl verify {manifest.ref}` lists damage, "
        f"then run stage {manifest.stage} again with --force"
    )


def read_table(
    store: Store, manifest: Manifest, part: Part, role: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return one parquet file of a part, its hash checked before it is parsed."""
    _, file = opened_table(store, manifest, part, role)
    # Workers are as many as cores already, and threads for columns this narrow cost more than they save.
    return file.read(columns=list(columns) if columns else None, use_threads=False)


def opened_table(store: Store, manifest: Manifest, part: Part, role: str) -> tuple[bytes, pq.ParquetFile]:
    """Return the bytes of one parquet file of a part, their hash checked, and the file over them.

    Raises:
        ManifestError: The part has no such file, or its hash differs.
    """
    if role not in part.files:
        raise ManifestError(
            f"part {part.key} of {manifest.ref} has no {role!r}, only {', '.join(sorted(part.files))}; "
            f"stage {manifest.stage} writes it"
        )
    data = read_file(store, manifest, part.files[role])
    return data, pq.ParquetFile(pa.BufferReader(data))


class Progress:
    """Writes `progress.json` beside the artifact, at most once a second, for the UI and the terminal.

    A store that does not take a note ends no stage: the log says so. What ends it is that another run took the
    artifact over, which is looked for here because every stage tells how far it is.
    """

    def __init__(self, store: Store, ref: Ref, fence: int = 0) -> None:
        """Start at nothing done; `fence` is the number of the lease under which the artifact is made, 0 for none."""
        self._store, self._ref, self._fence = store, ref, Fence(store, ref, fence)
        self._started = self._written = time.monotonic()
        self._first, self._unit = True, ""
        self._seen: deque[tuple[float, float]] = deque(maxlen=RATE_RECORDS)

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Record how far the stage is; the first and the last record are always written.

        Raises:
            TakenOver: Another run makes this artifact now.
        """
        self._fence.glance()
        now = time.monotonic()
        if not self._first and done < total and now - self._written < PROGRESS_SECONDS:
            return
        self._first, self._written = False, now
        record = {
            "done": done,
            "total": total,
            "unit": unit,
            "note": note,
            "seconds": round(now - self._started, 1),
            "rate": self._rate(now, done, unit),
            "at": round(time.time(), 1),
        }
        store_aside(self._store, self._ref.key("progress.json"), json.dumps(record).encode())

    def _rate(self, now: float, done: float, unit: str) -> float | None:
        """Return units a second over the last records; None before two of them moved.

        It counts from the first unit done, so neither starting up nor what stood before is taken for work.
        """
        if unit != self._unit:
            self._unit = unit
            self._seen.clear()
        if done > 0 and (not self._seen or done > self._seen[-1][1]):
            self._seen.append((now, done))
        if len(self._seen) < 2:
            return None
        (began, first), (_, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(now - began, 1e-6)


class Opened(NamedTuple):
    """Shards that a stage has opened, and the keys of the samples left out because they are damaged."""

    name: str
    left_out: tuple[str, ...]


@dataclass
class Workspace:
    """What a stage works with."""

    store: Store
    cluster: Cluster
    scratch: Path
    inputs: dict[str, Manifest] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    progress: Callable[..., None] = lambda *_, **__: None
    on_corrupt: Literal["fail", "skip"] = "fail"
    opened: list[Opened] = field(default_factory=list)
    quarantined: list[Part] = field(default_factory=list)
    """Empty parts for those that could not be made; what commits an artifact passes them on."""
    earlier: Manifest | None = None
    """What stands of the artifact and is added to: its parts are kept (`StageSpec`, `GROWS`)."""

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
        rows: Callable[[T], int] | None = None,
    ) -> list[Part]:
        """Make all parts on the cluster, skipping those that stand.

        Args:
            output: Where parts are looked up.
            work: Makes and publishes one part; must be picklable and idempotent.
            items: (part key, input digest, what `work` is handed) per part.
            unit: Word for the progress bar.
            light: Parts are so quick that starting workers may take longer. They are made in this process
                for as long as the rest would take less than `LIGHT_SECONDS` at the pace of the last one.
            rows: Rows of an item that begins with the part's key and input digest: parts may then be quarantined,
                as far as the placement lets them. Without it the error of a part ends the stage.

        Returns:
            All parts that stand, sorted by key.

        Raises:
            ManifestError: More parts could not be made than may be quarantined.
        """
        parts = output.standing((key, digest) for key, digest, _ in items)
        standing = {part.key for part in parts}
        todo = [item for key, _, item in items if key not in standing]
        self.progress(len(parts), len(items), unit, f"{len(parts)} stood already" if parts else "")
        needs: dict[str, Any] = {
            "cpus": self.placement.cpus_per_task,
            "gpus": self.placement.gpus_per_worker,
            "resources": self.placement.resources,
        }
        if rows is not None and self.placement.max_quarantined_share:
            tried = Tried(work, rows, self.placement.part_tries)
            work, needs["lost"], needs["tries"] = tried, tried.lost, tried.tries
            # A work that kills its process must not do so here.
            light = False
        pace = 0.0
        while light and todo and not self.placement.gpus_per_worker and pace * len(todo) < LIGHT_SECONDS:
            started = time.monotonic()
            parts.append(work(todo.pop(0)))
            pace = time.monotonic() - started
            self.progress(len(parts), len(items), unit)
        for part in self.cluster.map(work, todo, **needs):
            if is_quarantined(part):
                self.quarantined.append(part)
                refuse_more(self.quarantined, len(items), self.placement.max_quarantined_share)
            else:
                parts.append(part)
            self.progress(len(parts), len(items), unit)
        return sorted(parts, key=lambda part: part.key)
