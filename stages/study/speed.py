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


@torch.no_grad()
def speeds(
    models: Sequence[InternVisionModel], batches: Sequence[int], rounds: int, device: torch.device
) -> list[dict[int, list[float]]]:
    """Return for each model and batch size the pictures per second of each round.

    All models take turns within a round, so that whatever else slows the machine slows all; each is on the device
    for its turn alone, because all of them together may not fit.
    """
    found: list[dict[int, list[float]]] = [{batch: [] for batch in batches} for _ in models]
    for number in range(rounds + 1):
        for model, times in zip(models, found, strict=True):
            config = model.to(device).eval().config
            for batch in batches:
                shape = (batch, config.num_channels, config.image_size, config.image_size)
                pixels = torch.zeros(shape, device=device, dtype=next(model.parameters()).dtype)
                seconds = _seconds(model, pixels, device)
                if number:  # the first round warms up
                    times[batch].append(batch / seconds)
            model.cpu()
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
    found: dict[str, dict[str, Any]] = {}
    models = []
    pixels = torch.zeros(1, base.num_channels, base.image_size, base.image_size, device=device, dtype=dtype)
    precision: Precision = "bfloat16 mixed" if parameters.training.schedule.precision == "bf16" else "float32"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for variant in variants:
            model = InternVisionModel(variant.config(base)).to(device, dtype)
            cost = exact_cost(model.config)
            found[variant.name] = {
                **cost,
                "training_bytes": memory(cost["parameters"], precision).training,
                "activation_bytes": activation_bytes(model, pixels),
            }
            models.append(model.cpu())
    timed = speeds(models, parameters.batches, parameters.rounds, device)
    for variant, times in zip(variants, timed, strict=True):
        found[variant.name]["speed"] = summed(times)
        found[variant.name]["device"] = torch.cuda.get_device_name(device) if cuda else "one CPU core"
    return found
