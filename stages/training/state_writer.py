"""Writes states in the background: the step boundary copies, everything after it is a thread's work.

Each process writes what is its own; when the step's scalars have told that all have, the first one
publishes `state.json`, then removes what is not kept. No thread ever waits for another process.
"""

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from infra.failpoints import failpoint
from infra.storage import Store, sha256_file
from stages.checkpoints import jsonl
from stages.manifest import ManifestError, canonical, unsealed
from stages.training.state_files import (
    HISTORY,
    LATEST,
    STATE,
    Damaged,
    Folder,
    Piece,
    Shard,
    State,
    find_states,
    record,
    shard_name,
)
from stages.training.task import taken


@dataclass(frozen=True)
class Snapshot:
    """What one process has to write: copies, so that training goes on meanwhile."""

    folder: Folder
    rank: int
    processes: int
    tensors: Mapping[str, Tensor]
    pieces: Mapping[str, Piece]
    generators: dict[str, Any]
    history: list[dict[str, float]]
    extras: dict[str, Any]
    schedule: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Keeping:
    """Which states stay: the last ones, those to go back to, and the best by one metric where one is named."""

    last: int = 2
    reach: int = 0
    """Steps that a run may go back over: a state from before them stays too."""
    metric: str | None = None
    lower_is_better: bool = True
    refused: frozenset[int] = frozenset()
    """Numbers of states that were found damaged: they count for nothing."""


class Writer:
    """One background thread, one work at a time."""

    def __init__(self, scratch: Path) -> None:
        """Write tensors to this folder first, where their hash is taken."""
        self._scratch = scratch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")

    def write(self, snapshot: Snapshot, keeping: Keeping) -> "Future[None]":
        """Begin to write what is this process's own; a process alone has nobody to wait for and publishes."""
        if snapshot.processes == 1:
            return self._thread.submit(_write_alone, snapshot, self._scratch, keeping)
        return self._thread.submit(_write, snapshot, self._scratch)

    def publish(self, snapshot: Snapshot, keeping: Keeping) -> "Future[None]":
        """Begin to publish a state that all processes have written."""
        return self._thread.submit(_publish, snapshot, keeping)

    def close(self) -> None:
        """Wait for the work in flight."""
        self._thread.shutdown(wait=True)


def _write_alone(snapshot: Snapshot, scratch: Path, keeping: Keeping) -> None:
    _write(snapshot, scratch)
    _publish(snapshot, keeping)


def _write(snapshot: Snapshot, scratch: Path) -> None:
    """Write one process's files; its record comes last.

    Raises:
        ManifestError: Another run writes the same state.
    """
    folder, name = snapshot.folder, ""
    files: dict[str, str] = {}
    failpoint("before_shard")
    if snapshot.tensors:
        name = shard_name(snapshot.rank, snapshot.processes, "safetensors")
        local = scratch / name
        try:
            save_file(dict(snapshot.tensors), local)
            files[name] = sha256_file(local)
            folder.store.write(folder.key(name), local)
        finally:
            local.unlink(missing_ok=True)
    if snapshot.rank == 0:
        lines = jsonl(snapshot.history)
        files[HISTORY] = hashlib.sha256(lines).hexdigest()
        folder.store.write(folder.key(HISTORY), lines)
    shard = Shard(
        rank=snapshot.rank,
        tensors=name,
        files=files,
        pieces=dict(snapshot.pieces),
        generators=snapshot.generators,
        extras=snapshot.extras if snapshot.rank == 0 else {},
    )
    if not folder.store.create(folder.key(shard_name(snapshot.rank, snapshot.processes, "json")), record(shard)):
        raise ManifestError(f"{folder.root}/{folder.name} is being written by another run too; end one of the two")
    failpoint("after_shard")


def _publish(snapshot: Snapshot, keeping: Keeping) -> None:
    """Bind all files of a state, which makes it count; then remove what is not kept.

    Raises:
        ManifestError: Another run published the same state, or a process's record is not there.
    """
    folder, store = snapshot.folder, snapshot.folder.store
    files: dict[str, str] = {}
    for rank in range(snapshot.processes):
        name = shard_name(rank, snapshot.processes, "json")
        data = store.read(folder.key(name))
        files |= {name: hashlib.sha256(data).hexdigest(), **Shard.model_validate(unsealed(data)).files}
    last = (taken(snapshot.history) or snapshot.history)[-1]
    state = State(
        number=folder.number,
        step=folder.step,
        processes=snapshot.processes,
        schedule=snapshot.schedule,
        data=snapshot.data,
        metrics={name: value for name, value in last.items() if math.isfinite(value)},
        files=files,
    )
    failpoint("before_state")
    if not store.create(folder.key(STATE), record(state)):
        raise ManifestError(f"{folder.root}/{folder.name} was published by another run too; end one of the two")
    failpoint("after_state")
    store.write(
        f"{folder.root}/{LATEST}", canonical({"name": folder.name, "number": folder.number, "step": state.step})
    )
    prune(store, folder.root, folder.number, keeping)


def prune(store: Store, root: str, newest: int, keeping: Keeping) -> None:
    """Remove older states that are not kept, and what killed runs left of others.

    At least `keeping.last` good ones stay, where there are so many, and up to two older ones; what the current
    save or a later one writes is never touched.
    """
    found = find_states(store, root)
    good = {number: folder for number, folder in found.whole.items() if number not in keeping.refused}
    way_back = _way_back(found.whole, good, newest, keeping.reach)
    kept = {*sorted(good)[-keeping.last :], *way_back, *_best(good, keeping)}
    for folder in (*found.whole.values(), *found.partial):
        if folder.number < newest and folder.number not in kept:
            folder.remove()


def _way_back(whole: Mapping[int, Folder], good: Mapping[int, Folder], newest: int, reach: int) -> set[int]:
    """Return the newest state from before the steps that a run may go back over, and its successor."""
    bound = whole[newest].step - reach if newest in whole else 0
    before = [number for number, folder in good.items() if folder.step <= bound]
    within = [number for number, folder in good.items() if folder.step > bound]
    return {*sorted(before)[-1:], *sorted(within)[:1]}


def _best(good: Mapping[int, Folder], keeping: Keeping) -> set[int]:
    if keeping.metric is None:
        return set()
    values = {}
    for number, folder in good.items():
        try:
            values[number] = folder.state().metrics[keeping.metric]
        except (Damaged, KeyError):
            continue  # what cannot be judged is not the best, and may still be one of the last
    sign = 1.0 if keeping.lower_is_better else -1.0
    return {min(values, key=lambda number: (sign * values[number], -number))} if values else set()
