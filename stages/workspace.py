"""What a stage is handed: the store, the cluster, its inputs, and the one place it may write."""

import hashlib
import io
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from infra.cluster import Cluster
from infra.storage import Store
from stages.aside import store_aside
from stages.manifest import File, Manifest, ManifestError, Part
from stages.output import Output
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
Sharding = Literal["ddp", "fsdp2"]
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

    It never ends a stage: where the store does not take a note, the log says so.
    """

    def __init__(self, store: Store, ref: Ref) -> None:
        """Start at nothing done."""
        self._store, self._ref = store, ref
        self._started = self._written = time.monotonic()
        self._first, self._unit = True, ""
        self._seen: deque[tuple[float, float]] = deque(maxlen=RATE_RECORDS)

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Record how far the stage is; the first and the last record are always written."""
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


@dataclass(frozen=True)
class Placement:
    """Where and how wide a stage runs; never part of a result's identity."""

    workers: int = 1
    """Training processes; with `min_workers` the most there may be."""
    min_workers: int | None = None
    """Training goes on with as few as these when machines are lost, and grows back to `workers`."""
    gpus_per_worker: int = 0
    cpus_per_task: float = 1.0
    resources: dict[str, float] = field(default_factory=dict)
    """Of a Ray cluster's own, by name, what each task needs: tasks then run only where a machine offers them."""
    sharding: Sharding = "ddp"
    """How a model lies over the processes: whole on each, or in shards."""
    micro_batch_size: int | None = None
    """Rows of a process's share that are computed at once; all of them when left out. Where rows are weighed
    (conversations) it says how many packs there are: each holds so many on the mean."""
    max_packed_tokens: int | None = None
    """Most tokens that are computed at once, where rows are weighed."""
    max_packed_tiles: int | None = None
    """Most tiles of pictures that are computed at once, where rows are weighed."""
    data_workers: int = 0
    """Processes that make batches ahead of each training process."""
    activation_checkpointing: bool = False
    """Compute the inside of layers again for the backward pass instead of keeping it."""
    compile: bool = False
    """Compile each layer with torch.compile."""
    deterministic: bool = False
    """On a GPU too, the same run gives the same bits: slower kernels that add up in one order alone."""
    collective_timeout_seconds: float = 600.0
    """How long a step waits for a process that does not answer."""
    checkpoint_steps: int = 50
    states_kept: int = 2
    """Newest states of a running training that stay; fewer are never left by a removal."""
    best_metric: str | None = None
    """A number that each step measures (`loss`): the state with the best one stays too."""
    best_is: Literal["lower", "higher"] = "lower"
    on_failed_save: Literal["stop", "go_on"] = "stop"
    """What a training does whose state cannot be written (a full disk); it says so loudly either way."""
    drift_patience_seconds: float = 1800.0
    cache_bytes: int | None = None
    """Larger shards are read from the store by range, and each training process keeps so much of them on disk.

    None copies all."""

    def __post_init__(self) -> None:
        """Refuse what no placement can be.

        Raises:
            ManifestError: A value is unknown or out of its range.
        """
        known = get_args(Sharding)
        if self.sharding not in known:
            raise ManifestError(f"sharding {self.sharding!r} is unknown; choose one of {', '.join(known)}")
        least = self.workers if self.min_workers is None else self.min_workers
        if not 1 <= least <= self.workers:
            raise ManifestError(f"min_workers {least} must lie between 1 and workers ({self.workers})")
        for name in ("micro_batch_size", "max_packed_tokens", "max_packed_tiles"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise ManifestError(f"{name} {given} must be at least 1, or left out")
        if self.collective_timeout_seconds <= 0:
            raise ManifestError(f"collective_timeout_seconds {self.collective_timeout_seconds} must be above 0")
        if self.checkpoint_steps < 1 or self.states_kept < 1:
            raise ManifestError(
                f"checkpoint_steps {self.checkpoint_steps} and states_kept {self.states_kept} must be at least 1"
            )
        if self.best_is not in ("lower", "higher") or self.on_failed_save not in ("stop", "go_on"):
            raise ManifestError(
                f"best_is {self.best_is!r} must be lower or higher, and on_failed_save {self.on_failed_save!r} "
                "stop or go_on"
            )


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
        parts = output.standing((key, digest) for key, digest, _ in items)
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
            work,
            todo,
            cpus=self.placement.cpus_per_task,
            gpus=self.placement.gpus_per_worker,
            resources=self.placement.resources,
        ):
            parts.append(part)
            self.progress(len(parts), len(items), unit)
        return sorted(parts, key=lambda part: part.key)
