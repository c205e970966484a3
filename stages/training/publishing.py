"""What a finished training run leaves in the store; a model passes one tensor at a time, whatever its size."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from models.renaming import State, fill
from stages.checkpoints import jsonl, publish
from stages.manifest import ManifestError, Part
from stages.output import Data, Hashed
from stages.training.flight_records import flight_key
from stages.training.job import Job
from stages.training.order import Order
from stages.training.sharding import Gathered
from stages.training.task import Finished, Task, taken
from stages.weight_files import SHARD_BYTES, on_meta, open_weights, write_weights, writing_order


def publish_checkpoint(
    job: Job, done: Finished, history: list[dict[str, float]], order: Order, scratch: Path
) -> Part:
    """Publish a model's files with the history of its training; weights go through a folder of this machine.

    Raises:
        ValueError: Two files have the same name before their first dot.
        ManifestError: The guard let no step pass, or the folder has no room.
    """
    steps = taken(history)
    if not steps:
        raise ManifestError(
            f"{job.output.ref}: no step was taken, all {len(history)} were skipped; "
            f"{flight_key(job.output.ref)} tells why"
        )
    described = on_meta(done.weights)
    written = _write(done.weights, described, scratch / "published")
    files: dict[str, Data] = {each.path.name: each for each in written}
    files |= {**done.files, "history.jsonl": jsonl(history)}
    roles = {name.partition(".")[0]: name for name in files}
    if len(roles) != len(files):
        raise ValueError(f"checkpoint files {sorted(files)} must differ before their first dot")
    marks = [steps[round(i * (len(steps) - 1) / 7)] for i in range(8)] if len(steps) > 8 else steps
    facts = {
        "names": roles,
        "metrics": {**done.metrics, "steps": len(history), "last_loss": steps[-1]["loss"]},
        "curve": marks,
        "order": order.described() | {"global_batch_size": job.schedule.global_batch_size},
        "inputs": {name: {"ref": str(each.ref), "digest": each.digest} for name, each in sorted(job.inputs.items())},
        "parameters": sum(each.numel() for each in described.values()),
    }
    named = {role: (name, files[name]) for role, name in roles.items()}
    return publish(job.output, job.digest, named, order.samples, facts)


def gather(module: nn.Module, folder: Path, *, keep: bool) -> None:
    """Write what learned in a model in shards to a folder of this machine; all processes must call it together.

    Args:
        module: In shards.
        folder: Where the weights go.
        keep: Whether this process writes; else it helps the one that does.

    Raises:
        ManifestError: The folder has no room.
    """
    weights = Gathered(module)
    described = weights.on_meta()
    try:
        if keep:
            _write(weights, described, folder)
    finally:
        # Each tensor takes all processes: this one helps to the last, also where it could not write them.
        for name in writing_order(described, SHARD_BYTES):
            if name not in weights.asked:
                weights[name]


def around(build: Callable[[], Task], folder: Path) -> Task:
    """Return a task built anew around the weights that `gather` wrote, which are removed; what is frozen stays."""
    task = build()
    frozen = {name for name, each in task.module.named_parameters() if not each.requires_grad}
    fill(task.module, open_weights(folder), "the trained model", optional=frozen)
    shutil.rmtree(folder)
    return task


def _write(weights: State, described: State, folder: Path) -> list[Hashed]:
    """Write weights to this machine.

    Raises:
        ManifestError: There is no room.
    """
    try:
        return write_weights(weights, described, folder, SHARD_BYTES)
    except OSError as error:
        size = sum(each.nbytes for each in described.values())
        raise ManifestError(
            f"{folder} does not take the trained weights of {size:,} bytes: {error}; make room, or set TMPDIR to a "
            "folder that has it. The same command goes on after the last step"
        ) from error


def curve_table(facts: dict[str, Any]) -> str:
    """Return the loss at a few steps as a table for the run's page."""
    names = [n for n in facts["curve"][0] if n not in ("step", "lr", "grad_norm", "rows_digest")]
    lines = ["| step | " + " | ".join(names) + " |", "| --: |" + " --: |" * len(names)]
    lines += ["| " + " | ".join(f"{row[n]:.4g}" for n in ["step", *names]) + " |" for row in facts["curve"]]
    return "\n".join(lines)
