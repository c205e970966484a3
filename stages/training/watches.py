"""Signs of a run that goes wrong before its loss says so, looked at every few steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from stages.training.layer_norms import gradient_norms, parts_of, square_sums, tower_of
from stages.training.optimizer import local
from stages.training.placing import Placed


def watches(placed: Placed) -> dict[str, float]:
    """Return measures by part of the model, before a step's update; all processes call it together.

    `gradient/PART` is the norm of the (clipped) gradient; `update/PART` the root mean square of the last step's
    update over that of the weights; `patch_embedding` the root mean square of gradient over the root of
    AdamW's second moment, which rises above 1 some steps before a loss spike (arXiv:2304.13013, section 3.4).
    """
    parts = parts_of(placed.bare.named_parameters(), layers=True)
    found: dict[str, float] = {}
    for name, value in gradient_norms(parts).items():
        key = f"gradient/{tower_of(name)}"
        found[key] = math.hypot(found.get(key, 0.0), value)
    groups = {p: group for group in placed.optimizer.param_groups for p in group["params"]}
    known = {name: [p for p in held if placed.optimizer.state.get(p)] for name, held in parts.items()}
    # Made layer by layer: all updates at once would take the memory of a whole model.
    moved = ((tower_of(n), [_update(p, placed.optimizer.state[p], groups[p]) for p in h]) for n, h in known.items())
    update = square_sums(moved)
    weight = square_sums((tower_of(name), [p.detach() for p in held]) for name, held in known.items())
    found |= {f"update/{name}": (update[name] / weight[name]) ** 0.5 for name in update if weight[name]}
    return found | _patch_embedding(placed, groups)


def _update(parameter: nn.Parameter, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """Return the last update of a weight as the optimizer's moments tell it: AdamW's, weight decay aside."""
    beta1, beta2 = group["betas"]
    count = float(state["step"])
    first = state["exp_avg"] / (1 - beta1**count)
    second = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt()
    moved: Tensor = group["lr"] * first / (second + group["eps"])
    return moved


def _patch_embedding(placed: Placed, groups: Mapping[nn.Parameter, dict[str, Any]]) -> dict[str, float]:
    for name, parameter in placed.bare.named_parameters():
        if "patch_embedding" not in name or parameter.ndim < 2 or parameter.grad is None:
            continue
        group = groups[parameter]
        state = placed.optimizer.state.get(parameter)
        if state:
            unbiased = local(state["exp_avg_sq"]) / (1 - group["betas"][1] ** float(state["step"]))
            ratio = local(parameter.grad).square() / unbiased.clamp(min=group["eps"] ** 2)
            sums = torch.stack([ratio.sum(), torch.tensor(float(ratio.numel()), device=ratio.device)])
            if isinstance(parameter, DTensor):
                dist.all_reduce(sums)
            return {"patch_embedding": float((sums[0] / sums[1].clamp(min=1)).sqrt())}
    return {}


def loss_sums(facts: Sequence[Any], losses: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Return sum and number of the samples' losses by `source/NAME` and `language/NAME`."""
    found: dict[str, tuple[float, int]] = {}
    for fact, loss in zip(facts, losses, strict=True):
        for key in (f"source/{fact.source}", f"language/{fact.language or 'none'}"):
            total, count = found.get(key, (0.0, 0))
            found[key] = (total + loss, count + 1)
    return found


def merged(sums: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, float]:
    """Return the means of what several processes have summed up."""
    keys = sorted({key for each in sums for key in each})
    found = {}
    for key in keys:
        pairs = [each[key] for each in sums if key in each]
        found[key] = sum(total for total, _ in pairs) / sum(count for _, count in pairs)
    return found
