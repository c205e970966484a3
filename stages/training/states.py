"""What a stopped run goes on from: weights, optimizer, step and history, whole or unknown."""

import hashlib
import io
import json
from typing import Any

import torch
from torch import nn

from stages.manifest import ManifestError
from stages.training.job import Job

STATES_KEPT = 2


def save(job: Job, module: nn.Module, optimizer: Any, history: list[dict[str, float]], step: int) -> None:
    """Write what a restart needs; `latest.json` names it last, so it is whole or unknown."""
    kept = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    kept |= {name for name, _ in module.named_buffers()}
    weights = {name: value for name, value in module.state_dict().items() if name in kept}
    out = io.BytesIO()
    torch.save({"module": weights, "optimizer": optimizer.state_dict(), "history": history, "step": step}, out)
    store, name = job.output.store, f"step-{step:08d}.pt"
    store.write(f"{job.state}/{name}", out.getvalue())
    sha256 = hashlib.sha256(out.getvalue()).hexdigest()
    store.write(f"{job.state}/latest.json", json.dumps({"name": name, "sha256": sha256}).encode())
    for old in sorted(key for key in store.keys(job.state) if key.endswith(".pt"))[:-STATES_KEPT]:
        store.remove(old)


def restore(job: Job) -> dict[str, Any] | None:
    """Return the newest state, None where training starts anew.

    Raises:
        ManifestError: Its bytes are not those that were written.
    """
    store, key = job.output.store, f"{job.state}/latest.json"
    if not store.exists(key):
        return None
    latest = json.loads(store.read(key))
    data = store.read(f"{job.state}/{latest['name']}")
    if hashlib.sha256(data).hexdigest() != latest["sha256"]:
        raise ManifestError(f"{job.state}/{latest['name']} is damaged; remove {job.state} to train from the start")
    found: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return found
