"""How fast each variant's encoder sees pictures, and what training it holds in memory: measured side by side."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.composition import Size
from models.config import VisionConfig
from models.cost import vision_macs
from models.counting import count, shapes
from models.intern_vit import InternVisionModel
from models.memory import Precision, memory
from models.variants import Variant
from stages.study.parameters import Parameters

LEAST_SECONDS = 0.2
"""Each timing repeats its batch for so long at least: a clock's tick and a first call are then nothing."""


def exact_cost(config: VisionConfig) -> dict[str, int]:
    """Return an encoder's parameters and multiply-accumulates of one picture; the paper calls the latter FLOPs."""
    parameters = count(shapes(Size(name="variant", kind="vision", vision=config)))
    return {"parameters": parameters, "macs": vision_macs(config)}


def activation_bytes(model: InternVisionModel, pixels: Tensor) -> int:
    """Return what one forward pass keeps for the backward pass: each storage once, weights not counted."""
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = model.train()(pixels)  # alive until here, so that no storage is counted at another's old address
    del held
    return sum(kept.values())


def _seconds(model: InternVisionModel, pixels: Tensor, device: torch.device) -> float:
    """Return the seconds of one batch, averaged over as many as fill `LEAST_SECONDS`."""
    done, started = 0, time.perf_counter()
    while not done or time.perf_counter() - started < LEAST_SECONDS:
        model(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += 1
    return (time.perf_counter() - started) / done


def _drawn(config: VisionConfig, device: torch.device, dtype: torch.dtype) -> InternVisionModel:
    """Return an encoder that nothing was trained for, drawn where it is needed: its weights change no timing."""
    with torch.random.fork_rng(), device:
        torch.manual_seed(0)
        return InternVisionModel(config).to(dtype)


@torch.no_grad()
def speeds(
    configs: Sequence[VisionConfig],
    batches: Sequence[int],
    rounds: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> list[dict[int, list[float]]]:
    """Return for each encoder and batch size the pictures per second of each round.

    All take turns within a round, so that whatever else slows the machine slows all; each is there for its turn
    alone, because all of them together may not fit.
    """
    found: list[dict[int, list[float]]] = [{batch: [] for batch in batches} for _ in configs]
    for number in range(rounds + 1):
        for config, times in zip(configs, found, strict=True):
            model = _drawn(config, device, dtype).eval()
            for batch in batches:
                shape = (batch, config.num_channels, config.image_size, config.image_size)
                seconds = _seconds(model, torch.zeros(shape, device=device, dtype=dtype), device)
                if number:  # the first round warms up
                    times[batch].append(batch / seconds)
            del model
    return found


def summed(times: dict[int, list[float]]) -> dict[str, Any]:
    """Return speed at the smallest batch and at the batch that is fastest, in pictures per second, with the range."""
    middles = {batch: statistics.median(values) for batch, values in times.items()}
    fastest = max(middles, key=lambda batch: middles[batch])

    def row(batch: int) -> dict[str, float]:
        return {"batch": batch, "value": middles[batch], "low": min(times[batch]), "high": max(times[batch])}

    return {"unsaturated": row(min(middles)), "saturated": row(fastest)}


def measure_speed(variants: Sequence[Variant], parameters: Parameters) -> dict[str, dict[str, Any]]:
    """Return each variant's cost, memory and speed; on a GPU in bfloat16, as the paper has it, else in float32."""
    cuda = torch.cuda.is_available()
    device, dtype = torch.device("cuda" if cuda else "cpu"), torch.bfloat16 if cuda else torch.float32
    if not cuda:
        torch.set_num_threads(1)  # one core, whatever else runs on the others
    base = parameters.training.vision()
    configs = [variant.config(base) for variant in variants]
    precision: Precision = "bfloat16 mixed" if parameters.training.schedule.precision == "bf16" else "float32"
    pixels = torch.zeros(1, base.num_channels, base.image_size, base.image_size, device=device, dtype=dtype)
    found: dict[str, dict[str, Any]] = {}
    for variant, config in zip(variants, configs, strict=True):
        cost = exact_cost(config)
        found[variant.name] = {
            **cost,
            "training_bytes": memory(cost["parameters"], precision).training,
            "activation_bytes": activation_bytes(_drawn(config, device, dtype), pixels),
        }
    timed = speeds(configs, parameters.batches, parameters.rounds, device, dtype)
    for variant, times in zip(variants, timed, strict=True):
        found[variant.name]["speed"] = summed(times)
        found[variant.name]["device"] = torch.cuda.get_device_name(device) if cuda else "one CPU core"
    return found
