"""A checkpoint from the state of a training that goes on: what the run would publish if it ended there.

The run is only read. A state is brought into a folder of ours before anything else is done with it (on one disk
by a link, which costs nothing and keeps the bytes when the run removes its own name for them), so a removal
meanwhile either comes too early, and the state is gone, or changes nothing.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from infra.cluster import InlineCluster
from infra.storage import Store, sha256_file
from stages.manifest import Manifest, ManifestError, find
from stages.ref import Ref
from stages.training.gang import Gang
from stages.training.job import Job
from stages.training.loading import order_of
from stages.training.lodging import lodge
from stages.training.pieces import MODULE, local_of, weights
from stages.training.publishing import curve_table, publish_checkpoint
from stages.training.state_files import Damaged, Folder, Shard, State
from stages.training.state_reader import copy_piece, history_of
from stages.workspace import Output, Workspace

STEP = ".step-"
NUMBER = "state_number"
"""Among a snapshot's totals: how many saves its run had made."""


def snapshot_ref(training: Ref, step: int) -> Ref:
    """Return what a run's snapshot is called: `checkpoints/contrastive@tiny.step-00000050`."""
    return Ref(name=training.name, version=f"{training.version}{STEP}{step:08d}")


def step_of(training: Ref, version: str) -> int | None:
    """Return the step of a snapshot of a run by its version, None where it is none of them."""
    digits = version.removeprefix(f"{training.version}{STEP}")
    return int(digits) if digits != version and digits.isdecimal() else None


def standing_snapshot(job: Job, step: int) -> Manifest | None:
    """Return the snapshot of a run after `step` steps, None where there is none.

    Raises:
        ManifestError: One of its name stands that was taken from another run.
    """
    ref = snapshot_ref(job.output.ref, step)
    found = find(job.output.store, ref)
    if found is not None and found.identity != _identity(job, step):
        raise ManifestError(
            f"{ref} stands and was taken from another training of {job.output.ref}; remove the folder {ref.folder} "
            "of the store, or train under another --version"
        )
    return found


def take_snapshot(job: Job, folder: Folder, scratch: Path) -> Manifest:
    """Publish the weights of a state as a checkpoint of its own, without what a restart alone needs.

    Args:
        job: The run.
        folder: The state.
        scratch: Of this process, empty.

    Raises:
        Damaged: The state is gone or is not what was written.
        ManifestError: It is of another model than the run's parameters build.
    """
    if (found := standing_snapshot(job, folder.step)) is not None:
        return found
    state = folder.state()
    shards = folder.shards(state)
    history = history_of(folder, state)
    held = _hold(folder, state, shards, scratch / "state")
    here = Workspace(
        store=job.output.store,
        cluster=InlineCluster(),
        scratch=scratch,
        inputs=job.inputs,
        placement=job.placement,
        on_corrupt=job.schedule.on_corrupt,
    )
    torch.manual_seed(job.schedule.seed)  # what is frozen and random is drawn as it was when training began
    gang = Gang(job)
    task = job.build(job.parameters, here)
    _fill(task.module, shards, held, folder)
    shutil.rmtree(held)
    lodge(task.module, gang.device)
    task.module.eval()
    with torch.no_grad():
        done = task.finish()
    output = Output(
        job.output.store, snapshot_ref(job.output.ref, folder.step), job.output.stage, _identity(job, folder.step)
    )
    part = publish_checkpoint(replace(job, output=output), done, history, order_of(gang, task), scratch)
    totals = {**part.facts["metrics"], NUMBER: folder.number, "markdown": curve_table(part.facts)}
    return output.commit([part], totals=totals)


def remove_snapshot(store: Store, ref: Ref) -> None:
    """Remove a checkpoint: first what makes it count."""
    store.remove(ref.key("manifest.json"))
    store.remove(ref.folder)


def _identity(job: Job, step: int) -> dict[str, Any]:
    # Whoever asks a checkpoint what it was trained on and how finds that where the run's own has it.
    return {**job.output.identity, "snapshot": {"of": str(job.output.ref), "step": step}}


def _hold(folder: Folder, state: State, shards: list[Shard], held: Path) -> Path:
    """Bring the tensors of a state into a folder of this machine, and verify them there.

    Raises:
        Damaged: One is gone or is not what was written.
    """
    held.mkdir()
    names = [shard.tensors for shard in shards if shard.tensors]
    for name in names:
        try:
            with folder.store.local(folder.key(name)) as path:
                _link(path, held / name)
        except FileNotFoundError as error:
            raise Damaged(f"{folder.name}/{name} is gone") from error
    for name in names:
        if sha256_file(held / name) != state.files.get(name):
            raise Damaged(f"{folder.name}/{name} differs from its sha256")
    return held


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(path, target)


def _fill(module: nn.Module, shards: list[Shard], held: Path, folder: Folder) -> None:
    targets = weights(module)
    stored = {
        name: piece.whole for shard in shards for name, piece in shard.pieces.items() if name.startswith(f"{MODULE}/")
    }
    if stored != {name: tuple(each.shape) for name, each in targets.items() if each.numel()}:
        raise ManifestError(
            f"{folder.root}/{folder.name} holds other tensors than the model of this version of the code; evaluate "
            "it with the version that trains it"
        )
    for shard in shards:
        if shard.tensors:
            with safe_open(held / shard.tensors, "pt") as file:
                for name, piece in shard.pieces.items():
                    if name in targets:
                        copy_piece(file, name, piece, local_of(targets[name]))
