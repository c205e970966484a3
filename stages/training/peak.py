"""What a device is called, and how fast it multiplies matrices, measured: what a model's use is held against."""

import time
from functools import cache
from pathlib import Path

import torch

SECONDS = 0.3


def device_name(device: torch.device) -> str:
    """Return what a GPU's driver calls it, or the kernel a processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "one CPU")


@cache
def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Return FLOPs per second of a large matrix product here, measured once per process in under a second.

    Args:
        device: Such as `cuda:0` or `cpu`.
        dtype: In which the run computes its products.
    """
    size = 8192 if device.startswith("cuda") else 768
    with torch.no_grad():
        # Not by torch's generators: a measurement must not move what the run draws.
        one = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)
        other = one.clone()
        best, spent = 0.0, 0.0
        _timed(one, other)
        while spent < SECONDS:
            took = _timed(one, other)
            best, spent = max(best, 2 * size**3 / took), spent + took
    return best


def _timed(one: torch.Tensor, other: torch.Tensor) -> float:
    _finish(one.device)
    start = time.perf_counter()
    torch.matmul(one, other)
    _finish(one.device)
    return max(time.perf_counter() - start, 1e-9)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
