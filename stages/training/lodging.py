"""Where a finished model is measured: on one GPU, where it is too large for that its layers one after another."""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from stages.training.sharding import layers_of

WHOLE_SHARE = 0.8
"""Of a GPU's free memory, that weights may take; the rest is for what is computed."""

log = logging.getLogger(__name__)


def lodge(module: nn.Module, device: torch.device) -> str:
    """Move a model, all of it on the CPU, to where it is measured without gradients, and say where that is.

    One that learned in the shards of many GPUs need not fit on one. Then some of its layers stay on the CPU and pass
    through the GPU each time they are called, which costs the time of a copy; the numbers are the same.

    Args:
        module: On the CPU; `state_dict` gives its weights unchanged at any time between two calls.
        device: The GPU; another device takes any model.

    Returns:
        In words for whoever waits; empty where there was nothing to choose.
    """
    if device.type != "cuda":
        module.to(device)
        return ""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    said = settle(module, device, int(WHOLE_SHARE * free))
    log.info("%s", said)
    return said


def settle(module: nn.Module, device: torch.device, room_bytes: int) -> str:
    """Move to a device what it has room for; let the other layers pass through it, and say what was chosen.

    Where not even one layer at a time has room beside what is in no layer, all stays on the CPU.
    """
    size, layers = _bytes(module), _outermost(module)
    if size <= room_bytes:
        module.to(device)
        return f"measuring on {device}"
    passing = _passing([_bytes(layer) for layer in layers], size, room_bytes)
    told = f"its weights of {size:,} bytes do not fit {device}, which has room for {room_bytes:,}"
    if passing is None:
        return f"measuring on the CPU, which takes long: {told}, nor do those that it would need at the same time"
    streamed = layers[len(layers) - passing :]
    held = {id(each) for layer in streamed for each in _tensors(layer)}
    for each in _tensors(module):
        if id(each) not in held:
            each.data = each.data.to(device)
    for layer in streamed:
        Passing(layer, device)
    return f"measuring on {device}, with {passing} of {len(layers)} layers passing through it: {told}"


def _passing(layers: Sequence[int], size: int, room: int) -> int | None:
    """Return how many of the layers, the last ones, have to pass: as few as can be; None where that is no help.

    Args:
        layers: Bytes of each.
        size: Bytes of the model.
        room: Bytes that there is room for.
    """
    resident = size
    for passing, own in enumerate(reversed(layers), start=1):
        resident -= own
        if resident + max(layers[len(layers) - passing :]) <= room:
            return passing
    return None


class Passing:
    """Lets a layer's weights be on a device while it runs, and only then; at home they are never touched."""

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        """Watch when the layer is called."""
        self._layer, self._device = layer, device
        self._home: list[tuple[Tensor, Tensor]] = []
        layer.register_forward_pre_hook(self._arrive)
        layer.register_forward_hook(self._leave, always_call=True)

    def _arrive(self, *_: Any) -> None:
        self._home = [(each, each.data) for each in _tensors(self._layer)]
        for each, data in self._home:
            each.data = data.to(self._device, copy=True)

    def _leave(self, *_: Any) -> None:
        for each, data in self._home:
            each.data = data
        self._home = []


def _outermost(module: nn.Module) -> list[nn.Module]:
    """Return the layers of all towers but those inside a layer."""
    layers = layers_of(module)
    inner = {id(part) for layer in layers for part in layer.modules() if part is not layer}
    return [layer for layer in layers if id(layer) not in inner]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _bytes(module: nn.Module) -> int:
    return sum(each.nbytes for each in chain(module.parameters(), module.buffers()))
