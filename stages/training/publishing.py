"""What a finished training run leaves in the store."""

import json
import math
from typing import Any

from stages.checkpoints import jsonl, publish
from stages.manifest import ManifestError, Part
from stages.training.flight_records import flight_key
from stages.training.job import Job
from stages.training.order import Order
from stages.training.task import Finished, taken


def publish_checkpoint(job: Job, done: Finished, history: list[dict[str, float]], order: Order) -> Part:
    """Publish a model's files with the history of its training.

    Raises:
        ValueError: Two files have the same name before their first dot.
        ManifestError: The guard let no step pass.
    """
    steps = taken(history)
    if not steps:
        raise ManifestError(
            f"{job.output.ref}: no step was taken, all {len(history)} were skipped; "
            f"{flight_key(job.output.ref)} tells why"
        )
    files = {**done.files, "history.jsonl": jsonl(history)}
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
        "parameters": sum(count(data) for name, data in done.files.items() if name.endswith(".safetensors")),
    }
    named = {role: (name, files[name]) for role, name in roles.items()}
    return publish(job.output, job.digest, named, order.samples, facts)


def count(safetensors: bytes) -> int:
    """Return how many numbers a safetensors file holds, read off its header."""
    length = int.from_bytes(safetensors[:8], "little")
    header: dict[str, Any] = json.loads(safetensors[8 : 8 + length])
    return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")


def curve_table(facts: dict[str, Any]) -> str:
    """Return the loss at a few steps as a table for the run's page."""
    names = [n for n in facts["curve"][0] if n not in ("step", "lr", "grad_norm", "rows_digest")]
    lines = ["| step | " + " | ".join(names) + " |", "| --: |" + " --: |" * len(names)]
    lines += ["| " + " | ".join(f"{row[n]:.4g}" for n in ["step", *names]) + " |" for row in facts["curve"]]
    return "\n".join(lines)
