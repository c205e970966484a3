"""Of a GPU: how fast it multiplies, how near bfloat16 is to the official numbers, and its attention kernels."""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.attention import attention
from models.parity import check_stage2, check_vision

RECORDINGS = Path(__file__).parent.parent / "tests" / "parity"
CHECKS = {"intern_vit_6b_style": check_vision, "internvl_stage2": check_stage2}
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
