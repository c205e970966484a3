"""Norms by part of a model: one number per layer or tower, summed over what processes hold."""

import re
from collections.abc import Iterable, Mapping, Sequence

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
    gradients = {name: [p.grad for p in held if p.grad is not None] for name, held in parts.items()}
    return {name: value**0.5 for name, value in square_sums(gradients).items()}


def square_sums(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Return the sum of squares of each part's tensors over all their shards; one wait for the device."""
    names = [name for name, tensors in parts.items() if tensors]
    if not names:
        return {}
    device = parts[names[0]][0].device
    sums = torch.zeros(2, len(names), device=device)
    sharded = False
    for place, name in enumerate(names):
        for row, kind in enumerate((True, False)):
            tensors = [local(each) for each in parts[name] if isinstance(each, DTensor) is kind]
            if tensors:
                sharded |= kind
                sums[row, place] = torch.stack(torch._foreach_norm(tensors)).float().square().sum()
    if sharded:
        dist.all_reduce(sums[0])
    return dict(zip(names, sums.sum(dim=0).tolist(), strict=True))
