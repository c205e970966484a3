"""On one GPU: parity in bfloat16, attention kernels, training steps of the true widths, and a resumed run.

`make gpu`. It needs torch, safetensors, numpy, pydantic and jaxtyping only, so that it runs on a borrowed
machine where nothing else is installed. `--dry` runs everything with tiny sizes on a CPU: its numbers mean nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from benchmarks.gpu_models import STAGES, TINY, Shape, Stage
from benchmarks.timing import publish, surroundings
from models.attention import attention
from models.grad_cache import accumulate
from models.objective import totals_of
from models.parity import check_stage2, check_vision
from stages.training.optimizer import optimizer_of
from stages.training.schedule import Schedule
from stages.training.sharding import compile_layers
from stages.training.task import parameter_groups

RESULTS = Path(__file__).parent / "results" / "gpu.json"
RECORDINGS = Path(__file__).parent.parent / "tests" / "parity"
CHECKS = {"intern_vit_6b_style": check_vision, "internvl_stage2": check_stage2}
WAYS = {
    "recomputed": (True, False),
    "recomputed, compiled": (True, True),
    "kept": (False, False),
    "kept, compiled": (False, True),
}
"""Whether activations are computed again in the backward pass instead of kept, and whether layers are compiled."""
ATTENTIONS = {"vision, 257 tokens": (32, 25, 257, 128, False), "text, 512 tokens": (16, 32, 512, 128, True)}
"""Rows, heads, tokens, width of a head, causal."""


def seconds_of(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Return the median seconds of a work, the device's queue emptied before and after each; the first is dropped."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    found = []
    for _ in range(rounds + 1):
        wait()
        start = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - start)
    return sorted(found[1:])[rounds // 2]


def matmul_peak(device: torch.device, side: int) -> float:
    """Return the FLOP/s of a large bfloat16 matrix product: what there is to be reached."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: one @ other, device, 10)


def parity(device: torch.device) -> dict[str, Any]:
    """Return how far bfloat16 is from the official numbers, as the largest relative error by kind."""
    found: dict[str, Any] = {}
    for name, check in CHECKS.items():
        facts = json.loads((RECORDINGS / f"{name}.json").read_text())
        tensors = {key: value.to(device) for key, value in load_file(RECORDINGS / f"{name}.safetensors").items()}
        for precision in ("fp32", "bf16"):
            half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
            with torch.device(device), half:
                lines = check(facts, tensors)
            numeric = [line for line in lines if line.tolerance > 0]
            outputs = [line for line in numeric if not line.what.startswith("grad.")]
            found[f"{name}, {precision}"] = {
                "outputs": max(line.error for line in outputs),
                "gradients": max(line.error for line in numeric if line.what.startswith("grad.")),
            }
    return found


def kernels(device: torch.device, *, dry: bool) -> dict[str, Any]:
    """Return PyTorch's attention beside flash-attn, where that is installed: seconds, and the largest difference."""
    found: dict[str, Any] = {}
    flash = device.type == "cuda" and find_spec("flash_attn") is not None
    for name, (rows, heads, tokens, width, causal) in ATTENTIONS.items():
        shape = (1, 2, 16, 16) if dry else (rows, heads, tokens, width)
        inputs = [torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3)]

        exact = attention(*(each.float() for each in inputs), causal=causal, implementation="reference")
        found[name] = {}
        for how in ("sdpa", "flash") if flash else ("sdpa",):
            run = partial(attention, *inputs, causal=causal, implementation=how)
            error = float((run().float() - exact).abs().max())
            found[name][how] = {"seconds": seconds_of(run, device, 10), "error": error}
    return found


class Trainer:
    """Steps of one objective on drawn data, through the parts of the training loop."""

    def __init__(self, stage: Stage, shape: Any, device: torch.device, way: str = "recomputed") -> None:
        """Build the model and its data on the device."""
        recompute, compiled = WAYS[way]
        torch.manual_seed(0)
        with torch.device(device):
            self.work = stage.make(shape)
        self.module = cast(nn.Module, self.work.objective)
        for part in self.module.modules():
            if hasattr(part, "gradient_checkpointing"):
                part.gradient_checkpointing = recompute  # type: ignore[assignment]
        if compiled:
            compile_layers(self.module)
        schedule = Schedule(global_batch_size=1, steps=1, learning_rate=1e-5)
        self.optimizer = optimizer_of(parameter_groups(self.module.named_parameters(), 0.1), schedule)
        self.device = device

    def step(self) -> float:
        """Take one step and return its loss."""
        micro_batches = self.work.micro_batches
        totals = totals_of(self.work.objective, micro_batches)
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = accumulate(self.module, micro_batches, totals, Tensor.backward, nullcontext)
        nn.utils.clip_grad_norm_([p for p in self.module.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(losses["loss"])


def trained(stage: Stage, way: str, shape: Any, device: torch.device, peak: float, rounds: int) -> dict[str, Any]:
    """Return speed, share of the measured peak, and memory of one stage, at the largest shape that fits."""
    while True:
        trainer = None  # a former try's model would lie beside this one's
        try:
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            trainer = Trainer(stage, shape, device, way)
            seconds = seconds_of(trainer.step, device, rounds)
            break
        except torch.OutOfMemoryError:
            shape = shape.smaller()
            if shape is None:
                raise
    work = trainer.work
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return {
        "shape": asdict(shape),
        "parameters": sum(parameter.numel() for parameter in trainer.module.parameters()),
        "samples_per_second": work.samples / seconds,
        "useful_tflops": work.flop / seconds / 1e12,
        "mfu_of_measured_matmul": work.flop / seconds / peak,
        "peak_memory_gib": memory and memory / 2**30,
    }


def resumed(shape: Shape, device: torch.device) -> dict[str, Any]:
    """Return whether two more steps after a restore equal those of the run that went on, bit by bit."""
    stage = STAGES["S1-true"]
    trainer = Trainer(stage, shape, device)
    before = [trainer.step(), trainer.step()]
    weights = save({name: value.contiguous() for name, value in trainer.module.state_dict().items()})
    moments = {
        f"{index}.{name}": value.clone()
        for index, state in trainer.optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    onward = [trainer.step(), trainer.step()]
    again = Trainer(stage, shape, device)
    again.module.load_state_dict(load(weights))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in load(save(moments)).items():
        index, _, kind = name.partition(".")
        state.setdefault(int(index), {})[kind] = value
    groups = again.optimizer.state_dict()["param_groups"]
    again.optimizer.load_state_dict({"state": state, "param_groups": groups})
    replayed = [again.step(), again.step()]
    return {"before": before, "onward": onward, "replayed": replayed, "bitwise": onward == replayed}


def measure(device: torch.device, *, dry: bool) -> Iterator[dict[str, Any]]:
    """Yield everything that is measured, part by part: what was found stands if a later part fails."""
    peak = matmul_peak(device, 128 if dry else 8192)
    yield {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu (dry run: speeds mean nothing)",
        "matmul_tflops": peak / 1e12,
        "surroundings": surroundings(("torch", "safetensors", "numpy", "pydantic")),
    }
    yield {"parity": parity(device)}
    yield {"attention": kernels(device, dry=dry)}
    stages: dict[str, dict[str, Any]] = {name: {} for name in STAGES}
    for name, stage in STAGES.items():
        for way in stage.ways:
            shape = stage.tiny if dry else stage.shape
            stages[name][way] = trained(stage, way, shape, device, peak, 1 if dry else 5)
            yield {"stages": stages}
    yield {"resume": resumed(TINY if dry else Shape(2, 2, global_batch_size=64, micro_batch_size=32), device)}


def main(arguments: list[str] | None = None) -> int:
    """Measure and publish.

    Returns:
        0; 1 where a resumed run differs from one that went on; 2 where there is no GPU.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU, to see that the script works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    given = parser.parse_args(arguments)
    if not given.dry and not torch.cuda.is_available():
        print(
            "no CUDA device here; run this on a machine with a GPU, or with --dry to see that it works",
            file=sys.stderr,
        )
        return 2
    found: dict[str, Any] = {}
    for part in measure(torch.device("cpu" if given.dry else "cuda"), dry=given.dry):
        found |= part
        given.out.write_text(json.dumps(found, indent=1) + "\n")
        print("measured", *part, file=sys.stderr, flush=True)
    lines = [
        f"{name}, activations {way}: {stage['mfu_of_measured_matmul']:.1%} of matmul"
        for name, ways in found["stages"].items()
        for way, stage in ways.items()
    ]
    publish(found, "\n".join([found["device"], *lines, f"resumed bitwise: {found['resume']['bitwise']}"]), given.out)
    return 0 if found["resume"]["bitwise"] else 1


if __name__ == "__main__":
    sys.exit(main())
