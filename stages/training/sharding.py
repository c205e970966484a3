"""A model in shards over the processes (FSDP2), the same on CPUs and on GPUs.

Each layer is a unit: its weights are gathered when it runs and let go afterwards; what is in no layer
forms one more unit. Gradients arrive averaged, each process with its shard. `fully_shard` is applied
here and not through accelerate, whose plugin quietly gives plain data parallelism where there is no GPU:
so what the tests run on two CPU processes is what runs on GPUs (docs/decisions/0008-fsdp2-directly.md).
"""

from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from stages.training.optimizer import local


def layers_of(module: nn.Module) -> list[nn.Module]:
    """Return the layers of all towers: what stands in a `ModuleList`."""
    lists = (part for part in module.modules() if isinstance(part, nn.ModuleList))
    return [layer for each in lists for layer in each]


def compile_layers(module: nn.Module) -> None:
    """Let each layer be compiled when it is first called; layers of one kind share what is compiled."""
    # QLLaMA's layers are called in about twenty ways: with and without pictures, cache, mask and gradient.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for layer in layers_of(module):
        layer.compile()


def shard(module: nn.Module, device: torch.device, *, bf16: bool) -> None:
    """Cut all weights over the processes, in place; afterwards parameters are `DTensor`s.

    A scalar (the logit scale) cannot be cut: it stays whole on each process, and `average_whole` averages
    its gradient.

    Args:
        module: On `device` already, equal on all processes.
        device: Where it computes.
        bf16: Layers compute, and weights travel, in bfloat16; shards, sums and the optimizer stay in float32.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,
    )
    whole = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    for layer in layers_of(module):
        fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=whole)
    fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=whole)


class Gathered(Mapping[str, Tensor]):
    """What learns, and the buffers, of a model in shards: each is put together when it is asked for, and not kept.

    All processes must ask for the same ones in the same order; `asked` says which have been.
    """

    def __init__(self, module: nn.Module) -> None:
        """Take a model's trained parameters and what else its files hold."""
        self.asked: set[str] = set()
        state = set(module.state_dict())
        learns = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self._parts: dict[str, Tensor] = learns | {n: each for n, each in module.named_buffers() if n in state}

    def __getitem__(self, name: str) -> Tensor:
        """Put one tensor together, on the device of its shards."""
        part = self._parts[name].detach()
        self.asked.add(name)
        return part.full_tensor() if isinstance(part, DTensor) else part

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._parts)

    def on_meta(self) -> dict[str, Tensor]:
        """Return all tensors whole and without their numbers."""
        return {name: torch.empty(part.shape, dtype=part.dtype, device="meta") for name, part in self._parts.items()}


def average_whole(parameters: list[nn.Parameter]) -> None:
    """Average over the processes the gradients of what could not be cut."""
    gradients = [p.grad for p in parameters if p.grad is not None and not isinstance(p, DTensor)]
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def or_nothing(norm: Tensor) -> Tensor:
    """Return a norm, 0 where it is not finite; nothing waits for the device."""
    return norm.nan_to_num(0.0, 0.0, 0.0)


def clip_shards(parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients to a norm of at most `max_norm` over all shards, and return the norm before.

    Where that is not finite they stay as they are: a scaled one could not tell any more which of them broke.
    """
    shards = [local(p.grad) for p in parameters if isinstance(p.grad, DTensor)]
    whole = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
    device = parameters[0].device
    squares = torch.zeros(2, device=device)
    for place, gradients in enumerate((shards, whole)):
        if gradients:
            squares[place] = torch.stack(torch._foreach_norm(gradients)).float().square().sum()
    dist.all_reduce(squares[:1])
    norm = squares.sum().sqrt()
    scale = (max_norm / (or_nothing(norm) + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_ has it
    torch._foreach_mul_(shards + whole, scale)
    return norm
