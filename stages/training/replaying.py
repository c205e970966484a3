"""A batch once more, with an eye on every module: which was the first to make something that is not finite."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.grad_cache import Backward, NoSync, accumulate, bare
from models.objective import SAMPLE_LOSS, Named, totals_of
from stages.training.optimizer import local


@dataclass
class Culprits:
    """The first modules, in the order of computation, that made something that is not finite; None where none did."""

    activation: str | None = None
    gradient: str | None = None

    def told(self) -> str:
        """Return it in words."""
        if self.activation:
            return f"first not finite: {self.activation}"
        if self.gradient:
            return f"outputs are finite; first not finite on the way back: the gradient at {self.gradient}"
        return "all outputs and gradients are finite"


def replay(
    module: nn.Module, micro_batches: Sequence[Named], backward: Backward, no_sync: NoSync
) -> tuple[dict[str, Tensor], Culprits]:
    """Compute a step's losses and gradients once more, watched; the gradients add to those that are there.

    All processes must call it together. Nothing of it is sent to the others but what the losses themselves need.

    Returns:
        Scalars and `sample_loss` as `models.grad_cache.accumulate` returns them, and who broke.
    """
    objective: Any = bare(module)
    with _watched(objective) as culprits, no_sync():
        losses = accumulate(module, micro_batches, totals_of(objective, micro_batches), backward, no_sync)
    if not (culprits.activation or culprits.gradient):
        culprits.gradient = _broken_parameter(objective)
    return losses, culprits


def row_losses(losses: Named) -> list[float] | None:
    """Return the loss of each row, None where the objective does not tell."""
    found = losses.get(SAMPLE_LOSS)
    return None if found is None else [float(value) for value in found.detach().float().cpu()]


@contextmanager
def _watched(module: nn.Module) -> Iterator[Culprits]:
    """Watch all modules inside; the innermost that breaks is named, since it ends before those around it."""
    culprits = Culprits()
    handles = [
        part.register_forward_hook(_look(culprits, name or "the objective")) for name, part in module.named_modules()
    ]
    try:
        yield culprits
    finally:
        for handle in handles:
            handle.remove()


def _look(culprits: Culprits, name: str) -> Callable[..., None]:
    def forward(_: nn.Module, given: Any, made: Any) -> None:
        for tensor in _tensors(made):
            if culprits.activation is None and not _finite(tensor):
                culprits.activation = (
                    f"the output of {name}" if all(map(_finite, _tensors(given))) else f"what is given to {name}"
                )
            if tensor.requires_grad:
                tensor.register_hook(backward)

    def backward(gradient: Tensor) -> None:
        if culprits.gradient is None and not _finite(gradient):
            culprits.gradient = name

    return forward


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for value in found.values():
            yield from _tensors(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _tensors(value)


def _finite(tensor: Tensor) -> bool:
    tensor = local(tensor.detach())
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _broken_parameter(module: nn.Module) -> str | None:
    """Return the last weight, so the first on the way back, whose gradient is not finite.

    A shard's gradient is a mean over all processes already, and tells nothing of this one.
    """
    for name, parameter in reversed(list(module.named_parameters())):
        gradient = parameter.grad
        if gradient is not None and not isinstance(gradient, DTensor) and not _finite(gradient):
            return name
    return None
