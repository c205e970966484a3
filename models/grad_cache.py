"""Gradients of one large batch from many micro batches (GradCache, arXiv:2101.06983).

A contrastive loss needs the features of the whole batch at once, but its gradient by the weights can be
taken piece by piece: features of all micro batches without gradient, the loss and its gradient by the
features, then every micro batch once more, now with gradient. It costs one more forward pass, and is exact.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.objective import SAMPLE_LOSS, JointObjective, Named, added

Backward = Callable[[Tensor], Any]
NoSync = Callable[[], AbstractContextManager[Any]]


def accumulate(
    module: nn.Module, micro_batches: Sequence[Named], totals: Named | None, backward: Backward, no_sync: NoSync
) -> dict[str, Tensor]:
    """Add the gradients of one step to the weights and return its losses, whatever the objective.

    Args:
        module: The objective, bare or wrapped (DDP, FSDP2).
        micro_batches: This process's rows of the step, on the device of the weights; kept until the end.
        totals: What `models.objective.totals_of` returned for them.
        backward: Called with each loss; adds its gradients to the weights.
        no_sync: Opens a context in which gradients stay on this process; the last micro batch sends them all.

    Returns:
        Scalars of the whole step, detached: this process's shares, to be averaged over processes. `sample_loss`,
        where the objective has it, in the order of the rows.

    Raises:
        ValueError: There is no micro batch; or the features of a joint objective have no rows.
    """
    if not micro_batches:
        raise ValueError("a step without a micro batch has no gradient; give this process at least one row")
    objective = bare(module)
    if isinstance(objective, JointObjective) and len(micro_batches) > 1:
        return _replayed(module, objective, micro_batches, totals, backward, no_sync)
    found = []
    for number, batch in enumerate(micro_batches):
        with _syncing(number, micro_batches, no_sync):
            terms = module(batch, totals)
            backward(terms["loss"])
        found.append(_detached(terms))
    return _whole(found)


def bare(module: nn.Module) -> nn.Module:
    """Return what wrappers such as DDP hold."""
    while not isinstance(module, JointObjective) and isinstance(inner := getattr(module, "module", None), nn.Module):
        module = inner
    return module


def _replayed(
    module: nn.Module,
    objective: JointObjective,
    micro_batches: Sequence[Named],
    totals: Named | None,
    backward: Backward,
    no_sync: NoSync,
) -> dict[str, Tensor]:
    draws, pieces = [], []
    for batch in micro_batches:
        draws.append(_Draws(module))
        with torch.no_grad():
            pieces.append(module(batch, totals, call="embed"))
    rows = [_rows(piece) for piece in pieces]
    joined = {
        name: torch.cat([piece[name] for piece in pieces]) if value.ndim else value
        for name, value in pieces[0].items()
    }
    del pieces
    features = {name: value.detach().requires_grad_(value.is_floating_point()) for name, value in joined.items()}
    joint = objective.joint(features)
    gradients = _gradients(joint.losses["loss"], features)
    context = _cut(joint.context, rows)
    by_row = _cut({name: value for name, value in gradients.items() if value.ndim}, rows)
    found = []
    for number, batch in enumerate(micro_batches):
        # A learned scalar is the same in every micro batch: its gradient is handed in once.
        scalars = {name: value for name, value in gradients.items() if not value.ndim and number == len(rows) - 1}
        draws[number].again()
        with _syncing(number, micro_batches, no_sync):
            terms = module(
                batch, totals, call="rest", context=context[number], gradients={**by_row[number], **scalars}
            )
            backward(terms["loss"])
        found.append(_detached(terms))
    return added(_detached(joint.losses), _whole(found))


class _Draws:
    """PyTorch's random numbers as they stood before a micro batch, on the CPU and where the weights lie."""

    def __init__(self, module: nn.Module) -> None:
        self._cpu = torch.get_rng_state()
        devices = {parameter.device for parameter in module.parameters()} - {torch.device("cpu")}
        self._devices = {device: torch.get_device_module(device).get_rng_state(device) for device in devices}

    def again(self) -> None:
        """Let the next draws be those that followed."""
        torch.set_rng_state(self._cpu)
        for device, state in self._devices.items():
            torch.get_device_module(device).set_rng_state(state, device)


def _syncing(number: int, micro_batches: Sequence[Named], no_sync: NoSync) -> AbstractContextManager[Any]:
    return nullcontext() if number == len(micro_batches) - 1 else no_sync()


def _rows(features: Named) -> int:
    for value in features.values():
        if value.ndim:
            return value.shape[0]
    raise ValueError(f"features {sorted(features)} are all scalars; a joint objective embeds rows")


def _gradients(loss: Tensor, features: Named) -> dict[str, Tensor]:
    """Return the gradient of a loss by each feature that it depends on."""
    wanted = {name: value for name, value in features.items() if value.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {name: value for name, value in zip(wanted, found, strict=True) if value is not None}


def _cut(named: Named, rows: Sequence[int]) -> list[dict[str, Tensor]]:
    """Return each micro batch's rows of what is known of all of them."""
    cuts = {name: value.split(list(rows)) for name, value in named.items()}
    return [{name: pieces[number] for name, pieces in cuts.items()} for number in range(len(rows))]


def _detached(terms: Named) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in terms.items()}


def _whole(found: Sequence[Named]) -> dict[str, Tensor]:
    """Return the terms of a step from those of its micro batches: shares add up, rows follow each other."""
    whole = {
        name: torch.stack([terms[name] for terms in found]).sum(dim=0) for name in found[0] if name != SAMPLE_LOSS
    }
    if SAMPLE_LOSS in found[0]:
        whole[SAMPLE_LOSS] = torch.cat([terms[SAMPLE_LOSS] for terms in found])
    return whole
