"""The optimizers: AdamW, and AdamW that never takes a larger step than its own estimate allows."""

from collections.abc import Callable, Iterator
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from stages.training.schedule import Schedule

TEMPORARY = 1 << 26
"""About how many numbers a step computes at once: what it holds beside weights and moments, times three."""


def optimizer_of(groups: list[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
    """Return the schedule's optimizer over parameter groups; only what learns gets a state."""
    settings: dict[str, Any] = {"lr": schedule.learning_rate, "betas": (schedule.beta1, schedule.beta2)}
    if schedule.optimizer == "stable_adamw":
        return StableAdamW(groups, **settings)
    return torch.optim.AdamW(groups, fused=True, **settings)


def set_rates(optimizer: Any, rate: float) -> None:
    """Give each group its learning rate: the schedule's, times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: its shard, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class StableAdamW(torch.optim.Optimizer):
    """AdamW with update clipping (arXiv:2304.13013, section 3.5 and algorithm 2).

    Loss spikes of CLIP follow steps in which the second moment under-estimates the squared gradient. Where
    the root mean square over a tensor of gradient / sqrt(second moment) exceeds 1, that tensor's learning
    rate is divided by it. Where it does not, the step is that of AdamW. The mean is over the whole tensor,
    also when processes hold shards of it, so that placement decides nothing.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        """Keep the settings; weight decay is decoupled, as in AdamW."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step for every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        states = [self._state_of(parameter) for parameter in parameters]
        for state in states:
            state["step"] += 1
        count = int(states[0]["step"])
        values = [local(parameter) for parameter in parameters]
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        firsts = [local(state["exp_avg"]) for state in states]
        seconds = [local(state["exp_avg_sq"]) for state in states]
        torch._foreach_lerp_(firsts, gradients, 1 - beta1)
        torch._foreach_mul_(seconds, beta2)
        torch._foreach_addcmul_(seconds, gradients, gradients, 1 - beta2)
        pieces = list(_pieces(values))
        sums = [_squares(gradients[piece], seconds[piece], 1 - beta2**count, group["eps"]) for piece in pieces]
        rates = group["lr"] / _sizes(parameters, torch.cat(sums)).clamp(min=1)
        for piece in pieces:
            unbiased = torch._foreach_div(seconds[piece], 1 - beta2**count)
            torch._foreach_sqrt_(unbiased)
            torch._foreach_add_(unbiased, group["eps"])
            updates = torch._foreach_div(firsts[piece], unbiased)
            torch._foreach_div_(updates, 1 - beta1**count)
            torch._foreach_add_(updates, values[piece], alpha=group["weight_decay"])
            torch._foreach_mul_(updates, list(rates[piece]))
            torch._foreach_sub_(values[piece], updates)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def _pieces(tensors: list[Tensor]) -> Iterator[slice]:
    """Cut a list where about `TEMPORARY` numbers are together: what is computed of a piece is held beside it."""
    start = held = 0
    for place, tensor in enumerate(tensors):
        if held and held + tensor.numel() > TEMPORARY:
            yield slice(start, place)
            start, held = place, 0
        held += tensor.numel()
    yield slice(start, len(tensors))


def _squares(gradients: list[Tensor], seconds: list[Tensor], share: float, eps: float) -> Tensor:
    """Return the sum of gradient^2 / second moment over what is here of each tensor, shape (tensors,)."""
    floors = torch._foreach_div(seconds, share)
    torch._foreach_clamp_min_(floors, eps**2)
    squares = torch._foreach_mul(gradients, gradients)
    torch._foreach_div_(squares, floors)
    return torch.stack([square.sum() for square in squares]).float()


def _sizes(parameters: list[Tensor], sums: Tensor) -> Tensor:
    """Return the root mean square of gradient / sqrt(second moment) of each whole tensor, shape (parameters,)."""
    sharded = [index for index, parameter in enumerate(parameters) if isinstance(parameter, DTensor)]
    if sharded:
        picked = torch.tensor(sharded, device=sums.device)
        parts = sums[picked]
        first = parameters[sharded[0]]
        assert isinstance(first, DTensor)
        dist.all_reduce(parts, group=first.device_mesh.get_group())
        sums[picked] = parts
    counts = torch.tensor([parameter.numel() for parameter in parameters], device=sums.device)
    return (sums / counts).sqrt()
