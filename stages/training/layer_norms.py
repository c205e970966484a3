"""Norms by part of a model: one number per layer or tower, summed over what processes hold."""

import re
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from stages.training.optimizer import local

_LAYER = re.compile(r"(?P<tower>.*?)\.(?P<layer>\d+)\..*")

Parts = dict[str, list[nn.Parameter]]


def parts_of(named: Iterable[tuple[str, nn.Parameter]], *, layers: bool) -> Parts:
    """Return what learns, by part: a layer of a tower (or all layers of it), or a module outside the layers."""
    found: Parts = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        match = _LAYER.fullmatch(name)
        if match:
            part = f"{match['tower']}.{match['layer']}" if layers else match["tower"]
        else:
            part = name.rpartition(".")[0] or name
        found.setdefault(part, []).append(parameter)
    return found


def gradient_norms(parts: Parts) -> dict[str, float]:
    """Return the norm of each part's gradient, as it lies on the parameters; all processes call it together."""
    gradients = ((name, [p.grad for p in held if p.grad is not None]) for name, held in parts.items())
    return {name: value**0.5 for name, value in square_sums(gradients).items()}


def tower_of(part: str) -> str:
    """Return a layer's tower; of what is no layer, itself."""
    tower, _, layer = part.rpartition(".")
    return tower if layer.isdigit() else part


def square_sums(parts: Iterable[tuple[str, Sequence[Tensor]]]) -> dict[str, float]:
    """Return the sum of squares of each part's tensors over all their shards; one wait for the device.

    Args:
        parts: Looked at one after the other, so each may be made when it is asked for; a name may come again.
    """
    names, rows = [], []
    sharded = False
    for name, tensors in parts:
        if not tensors:
            continue
        zero = torch.zeros((), device=local(tensors[0]).device)
        held = [[local(each) for each in tensors if isinstance(each, DTensor) is kind] for kind in (True, False)]
        sharded |= bool(held[0])
        sums = [torch.stack(torch._foreach_norm(own)).float().square().sum() if own else zero for own in held]
        names.append(name)
        rows.append(torch.stack(sums))
    if not names:
        return {}
    table = torch.stack(rows)
    if sharded:
        cut = table[:, 0].contiguous()
        dist.all_reduce(cut)
        table[:, 0] = cut
    found: dict[str, float] = {}
    for name, value in zip(names, table.sum(dim=1).tolist(), strict=True):
        found[name] = found.get(name, 0.0) + value
    return found
