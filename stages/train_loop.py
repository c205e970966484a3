"""The one training loop: a stage brings its model, its batches and its loss; the loop does the rest.

It runs as a plain process, under `torchrun`, and as workers of Ray Train, and gives the same
numbers in all three. `accelerate` places the model, shards the step over processes and scales
gradients. What decides the result is in `Schedule`; workers and GPUs are placement.
"""

import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from infra.cluster import InlineCluster
from stages.batches import rows_of, share_of
from stages.checkpoints import FINAL, jsonl, publish
from stages.manifest import Manifest, ManifestError, Part, digest_of
from stages.workspace import Output, Placement, Progress, Workspace

STATES_KEPT = 2
Metrics = dict[str, float]
T = TypeVar("T")


class Schedule(BaseModel):
    """What every training stage decides about its steps; part of a result's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    global_batch_size: int = Field(ge=1, description="Samples per step over all processes.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    learning_rate: float = Field(gt=0, description="Peak, after the warm-up.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear rise.")
    final_ratio: float = Field(
        default=0.05, ge=0, le=1, description="Last learning rate as a share of the peak; cosine in between."
    )
    weight_decay: float = Field(default=0.05, ge=0, description="Of matrices; vectors and scalars have none.")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def factor(self, step: int) -> float:
        """Return the learning rate of a step as a share of the peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        run = max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup_steps) / run)))
        return self.final_ratio + (1 - self.final_ratio) * cosine


@dataclass
class Finished:
    """What a trained model leaves behind: file name to bytes, and numbers for people."""

    files: dict[str, bytes]
    metrics: dict[str, Any] = field(default_factory=dict)


class _Refused(Exception):
    """A process of the gang refused, and has written why."""


class Task(Protocol):
    """What one training stage supplies."""

    samples: int
    """How many samples there are to train on."""

    @property
    def module(self) -> nn.Module:
        """Called as `module(batch)`; returns named scalars, of which `loss` is minimised."""
        ...

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return parameter groups; `scale` in a group multiplies the learning rate."""
        ...

    def batch(self, rows: Sequence[int], step: int) -> Any:
        """Return this process's share of a step, tensors on the CPU (nested dicts and lists are moved)."""
        ...

    def finish(self) -> Finished:
        """Measure and pack the trained model; called once, on the first process, in evaluation mode."""
        ...


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, scale: Callable[[str], float] = lambda _: 1.0
) -> list[dict[str, Any]]:
    """Return groups of the trainable parameters: matrices decay, the rest does not; `scale` by name."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            groups.setdefault((scale(name), weight_decay if parameter.ndim >= 2 else 0.0), []).append(parameter)
    return [{"params": found, "scale": s, "weight_decay": w} for (s, w), found in sorted(groups.items())]


@dataclass(frozen=True)
class Job:
    """What travels to the training workers."""

    build: Callable[[Any, Workspace], Task]
    parameters: Any
    inputs: dict[str, Manifest]
    output: Output
    placement: Placement
    digest: str

    @property
    def state(self) -> str:
        """Return the key of the folder that holds what a restart goes on from."""
        return self.output.ref.key(f"state/{self.output.config_digest[:12]}-{self.digest[:12]}")

    @property
    def refusal(self) -> str:
        """Return the key under which a worker says why it will not train."""
        return f"{self.state}/refusal.txt"


def train(build: Callable[[Any, Workspace], Task], parameters: Any, output: Output, here: Workspace) -> Manifest:
    """Train to the end on the cluster and commit the checkpoint; a stopped run goes on where it was.

    Args:
        build: Makes the task inside each worker: a top-level function `(parameters, workspace) -> Task`.
        parameters: The stage's parameters; `parameters.schedule` is a `Schedule`.
        output: Where the checkpoint is published, as the part `final`.
        here: Inputs and cluster.

    Raises:
        ManifestError: The data or the parameters do not allow training; the message says the next move.
    """
    digest = digest_of({name: manifest.digest for name, manifest in here.inputs.items()})
    job = Job(build, parameters, here.inputs, output, here.placement, digest)
    part = output.done(FINAL, digest)
    # Under `torchrun` every process comes through here; what is removed is removed by the first alone.
    first = int(os.environ.get("RANK", "0")) == 0
    if part is None:
        if first:
            output.store.remove(job.refusal)
        here.cluster.train(
            _loop,
            {"job": job},
            workers=here.placement.workers,
            gpus_per_worker=here.placement.gpus_per_worker,
            name=f"{output.ref.folder.replace('/', '-')}-{output.config_digest[:12]}",
        )
        if output.store.exists(job.refusal):
            raise ManifestError(output.store.read(job.refusal).decode())
        part = output.done(FINAL, digest)
        if part is None:
            raise ManifestError(f"training of {output.ref} ended without a checkpoint; read the job's log")
    if first:
        output.store.remove(job.state)
    totals = {**part.facts["metrics"], "markdown": _markdown(part.facts)}
    return output.commit([part], totals=totals)


def _loop(config: dict[str, Any]) -> None:
    """Run one process of a training job."""
    job: Job = config["job"]
    scratch = Path(tempfile.mkdtemp(prefix=f"internvl-{job.output.stage}-"))
    here = Workspace(
        store=job.output.store,
        cluster=InlineCluster(),
        scratch=scratch,
        inputs=job.inputs,
        placement=job.placement,
        progress=Progress(job.output.store, job.output.ref),
    )
    try:
        _train(job, here)
    except ManifestError as error:
        # A refusal is final: trying again, as after a lost machine, would say the same.
        job.output.store.write(job.refusal, str(error).encode())
    except _Refused:
        pass
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _together(accelerator: Accelerator, job: Job, work: Callable[[], T]) -> T:
    """Do a work that may refuse; where one process refuses all stop, instead of waiting for it forever.

    Raises:
        _Refused: This process or another refuses; why is in the store by then.
    """
    refused = 0.0
    try:
        done = work()
    except ManifestError as error:
        job.output.store.write(job.refusal, str(error).encode())
        refused = 1.0
    if accelerator.num_processes > 1:
        refused = float(accelerator.reduce(torch.tensor(refused, device=accelerator.device), "sum"))
    if refused:
        raise _Refused
    return done


def _train(job: Job, here: Workspace) -> None:
    schedule: Schedule = job.parameters.schedule
    cuda = torch.cuda.is_available()
    if not cuda:
        # On shared cores two threads per step are slower than one; more cores mean more workers.
        torch.set_num_threads(1)
    torch.manual_seed(schedule.seed)
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if schedule.precision == "bf16" else "no")
    rank, processes = accelerator.process_index, accelerator.num_processes
    if accelerator.is_main_process:
        here.progress(0, schedule.steps, "steps", "reading data")
    task = _together(accelerator, job, partial(job.build, job.parameters, here))
    groups = task.groups(schedule.weight_decay)
    optimizer = torch.optim.AdamW(
        groups, lr=schedule.learning_rate, betas=(schedule.beta1, schedule.beta2), fused=cuda
    )
    state = _restore(job)
    history: list[dict[str, float]] = []
    first = 0
    if state is not None:
        task.module.load_state_dict(state["module"], strict=False)
        history, first = state["history"], state["step"]
    module, optimizer = accelerator.prepare(task.module, optimizer)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
    trained = [p for group in groups for p in group["params"]]
    module.train()
    for step in range(first, schedule.steps):
        # Seeded per step, so that dropped paths are the same after a restart.
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{schedule.seed}/{step}/{rank}".encode()).digest()[:7]))
        rows = rows_of(step, seed=schedule.seed, samples=task.samples, global_batch_size=schedule.global_batch_size)
        share = share_of(rows, rank, processes)
        batch = _to(_together(accelerator, job, partial(task.batch, share, step)), accelerator.device)
        rate = schedule.factor(step) * schedule.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        losses: dict[str, Tensor] = module(batch)
        accelerator.backward(losses["loss"])
        norm = accelerator.clip_grad_norm_(trained, schedule.max_grad_norm)
        names = sorted(losses)
        values = accelerator.reduce(torch.stack([losses[n].detach().float() for n in names]), "mean").tolist()
        if not all(map(math.isfinite, [*values, float(norm)])):
            raise ManifestError(
                f"{job.output.ref}: loss or gradient is not finite at step {step + 1} (samples {rows[:8]} ...); "
                f"lower the learning rate ({schedule.learning_rate:g}) or look at these samples"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        record = {"step": step + 1, "lr": rate, "grad_norm": float(norm), **dict(zip(names, values, strict=True))}
        history.append({name: _short(value) for name, value in record.items()})
        if accelerator.is_main_process:
            here.progress(step + 1, schedule.steps, "steps", f"loss {record['loss']:.3f}")
            if (step + 1) % job.placement.checkpoint_steps == 0 and step + 1 < schedule.steps:
                _save(job, task.module, optimizer, history, step + 1)
    if accelerator.is_main_process:
        here.progress(schedule.steps, schedule.steps, "steps", "measuring")
    _together(accelerator, job, partial(_finish, job, task, history) if accelerator.is_main_process else _nothing)


def _finish(job: Job, task: Task, history: list[dict[str, float]]) -> None:
    task.module.eval()
    with torch.no_grad():
        done = task.finish()
    _publish(job, done, history, task.samples)


def _nothing() -> None:
    """What the other processes do while the first one measures."""


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _to(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_to(value, device) for value in batch]
    return batch


def _save(job: Job, module: nn.Module, optimizer: Any, history: list[dict[str, float]], step: int) -> None:
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


def _restore(job: Job) -> dict[str, Any] | None:
    """Return the newest state, None where training starts anew."""
    store, key = job.output.store, f"{job.state}/latest.json"
    if not store.exists(key):
        return None
    latest = json.loads(store.read(key))
    data = store.read(f"{job.state}/{latest['name']}")
    if hashlib.sha256(data).hexdigest() != latest["sha256"]:
        raise ManifestError(f"{job.state}/{latest['name']} is damaged; remove {job.state} to train from the start")
    found: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return found


def _publish(job: Job, done: Finished, history: list[dict[str, float]], samples: int) -> Part:
    files = {**done.files, "history.jsonl": jsonl(history)}
    roles = {name.partition(".")[0]: name for name in files}
    if len(roles) != len(files):
        raise ValueError(f"checkpoint files {sorted(files)} must differ before their first dot")
    marks = [history[round(i * (len(history) - 1) / 7)] for i in range(8)] if len(history) > 8 else history
    facts = {
        "names": roles,
        "metrics": {**done.metrics, "steps": len(history), "last_loss": history[-1]["loss"]},
        "curve": marks,
    }
    named = {role: (name, files[name]) for role, name in roles.items()}
    return publish(job.output, job.digest, named, samples, facts)


def _markdown(facts: dict[str, Any]) -> str:
    """Return the loss at a few steps as a table for the run's page."""
    names = [n for n in facts["curve"][0] if n not in ("step", "lr", "grad_norm")]
    lines = ["| step | " + " | ".join(names) + " |", "| --: |" + " --: |" * len(names)]
    lines += ["| " + " | ".join(f"{row[n]:.4g}" for n in ["step", *names]) + " |" for row in facts["curve"]]
    return "\n".join(lines)
