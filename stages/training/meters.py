"""What a run costs and how it fares, every few steps: speed, waiting, use of the device, losses by kind of sample.

Clock values are no part of a result: they lie beside the checkpoint, in a file of their own that no manifest names.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from models.step_cost import step_cost
from models.step_work import StepCost
from stages.aside import store_aside
from stages.checkpoints import jsonl
from stages.forecasts import meters_key
from stages.training.flight import Seen
from stages.training.gang import Gang
from stages.training.loading import Step
from stages.training.peak import device_name, matmul_peak
from stages.training.placing import Placed
from stages.training.sinks import Sinks
from stages.training.task import BatchMaker
from stages.training.watches import loss_sums, merged, watches

METER_STEPS = 10
"""Steps between two looks; each look is one small exchange between the processes."""
KEEP = 0.9
"""Of a running mean, what stays of it at each look."""


class Meters:
    """Measures between two looks, and keeps what was measured."""

    def __init__(self, gang: Gang, placed: Placed, batches: BatchMaker, sinks: Sinks) -> None:
        """Start the clock.

        Args:
            gang: The processes that train together.
            placed: Their model.
            batches: Says where samples come from.
            sinks: Where else the first process tells its numbers.
        """
        self._gang, self._placed, self._batches, self._sinks = gang, placed, batches, sinks
        self._store, self._key = gang.job.output.store, meters_key(gang.job.output.ref)
        self._means: dict[str, float] = {}
        self._lines: list[dict[str, Any]] = []
        self._since_look()

    def restore(self, done: int, means: Mapping[str, float]) -> None:
        """Go on after so many steps, with the running means that `means` returned there."""
        self._means = dict(means)
        self._lines = [line for line in self._lines if line["step"] <= done]
        if self._gang.is_first and not self._lines and self._store.exists(self._key):
            lines = [json.loads(line) for line in self._store.read(self._key).splitlines()]
            self._lines = [line for line in lines if line["step"] <= done]
        self._since_look()

    def means(self) -> dict[str, float]:
        """Return the running means of losses by source and by language, as JSON."""
        return dict(self._means)

    def before_update(self, step: Step, seen: Seen) -> None:
        """Count a step, and every few steps look, while its gradients lie on the weights; all processes call it."""
        self._steps += 1
        self._samples += len(step.rows)
        self._waited += step.waited_seconds
        if (step.number + 1) % METER_STEPS == 0:
            # Lengths of texts lie on the device: asked of one step only, which stands for those before it.
            costs = [step_cost(self._placed.bare, batch) for batch in step.micro_batches]
            self._look(seen, sum(costs, start=StepCost()).times(self._steps))

    def publish(self) -> list[dict[str, Any]]:
        """Write what was measured into the store, and return it; the first process alone has something to write."""
        if self._gang.is_first:
            store_aside(self._store, self._key, jsonl(self._lines))
            self._sinks.flush()
        return list(self._lines)

    def _since_look(self) -> None:
        self._start, self._computed = time.monotonic(), time.process_time()
        self._steps, self._samples, self._waited = 0, 0, 0.0

    def _look(self, seen: Seen, cost: StepCost) -> None:
        watched = watches(self._placed)
        told = self._gathered(self._own(seen, cost))
        self._fold(merged([each["sums"] for each in told]))
        if self._gang.is_first:
            line = {
                "step": seen.step + 1,
                "device": device_name(self._gang.device),
                "processes": self._gang.processes,
                **self._whole(told),
                "loss": dict(sorted(self._means.items())),
                "watch": watched,
            }
            line = _rounded(line)
            self._lines.append(line)
            self._sinks.write(seen.step + 1, {**_flat(line), "lr": seen.rate, **seen.values})
        self._since_look()

    def _own(self, seen: Seen, cost: StepCost) -> dict[str, Any]:
        """Return what this process measured since the last look."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        sums: dict[str, tuple[float, int]] = {}
        if seen.sample_loss is not None:
            facts = [self._batches.facts(row) for row in seen.share]
            sums = loss_sums(facts, seen.sample_loss.float().tolist())
        peak = 0.0
        if cost.useful:
            bf16 = self._gang.job.schedule.precision == "bf16"
            peak = matmul_peak(str(self._gang.device), torch.bfloat16 if bf16 else torch.float32)
        return {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - self._computed,
            "waited": min(1.0, self._waited / seconds),
            "tokens": cost.tokens,
            "places": cost.places,
            "useful": cost.useful,
            "computed": cost.computed,
            "peak": peak,
            "memory": _memory(self._gang.device),
            "sums": sums,
        }

    def _whole(self, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the numbers of all processes together."""
        seconds = max(each["seconds"] for each in told)
        sums = {name: sum(each[name] for each in told) for name in ("tokens", "places", "useful", "computed", "peak")}
        found: dict[str, Any] = {
            "seconds_per_step": seconds / max(1, self._steps),
            "cpu_seconds_per_step": max(each["cpu_seconds"] for each in told) / max(1, self._steps),
            "samples_per_second": self._samples / seconds,
            "data_wait": sum(each["waited"] for each in told) / len(told),
            "peak_memory_bytes": max(each["memory"] for each in told),
        }
        if sums["places"]:
            found["tokens_per_second"] = sums["tokens"] / seconds
            # By FLOPs where they are known: a short text beside a large picture wastes little.
            found["useful_share"] = (
                sums["useful"] / sums["computed"] if sums["computed"] else sums["tokens"] / sums["places"]
            )
        if sums["peak"]:
            found["mfu"] = sums["useful"] / seconds / sums["peak"]
            found["matmul_peak_flops"] = sums["peak"]
        return found

    def _fold(self, found: Mapping[str, float]) -> None:
        """Let the running means follow; a loss that is not finite is no mean."""
        for name, value in found.items():
            if value == value and abs(value) != float("inf"):
                self._means[name] = KEEP * self._means.get(name, value) + (1 - KEEP) * value

    def _gathered(self, own: dict[str, Any]) -> list[dict[str, Any]]:
        if self._gang.processes == 1:
            return [own]
        told: list[Any] = [None] * self._gang.processes
        dist.all_gather_object(told, own)
        return told


def _memory(device: torch.device) -> int:
    """Return the most memory that this process ever held: on the GPU, else resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    return float(f"{found:.6g}") if isinstance(found, float) else found


def _flat(line: Mapping[str, Any]) -> dict[str, float]:
    """Return a line's numbers by path."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{key}": float(inner) for key, inner in value.items()}
        elif name != "step" and not isinstance(value, str):
            flat[name] = float(value)
    return flat
