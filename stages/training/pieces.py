"""Which piece of which tensor a process holds, and how pieces of one cut fill those of another.

One process, DDP and FSDP2 cut a model differently. A piece knows where it lies in the whole tensor,
so what was written under any cut can be read under any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from stages.manifest import ManifestError
from stages.training.placing import Placed

MODULE, OPTIMIZER = "module", "optimizer"
# What activation checkpointing and `torch.compile` put into names: placement, not part of a name.
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


@dataclass(frozen=True)
class Box:
    """A rectangle of elements: where it begins in the whole tensor, and how far it reaches."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    def meet(self, other: "Box") -> "Box | None":
        """Return what lies in both, None where nothing does."""
        start = tuple(map(max, self.offset, other.offset))
        stop = tuple(min(a + n, b + m) for a, n, b, m in self._beside(other))
        if any(low >= high for low, high in zip(start, stop, strict=True)):
            return None
        return Box(start, tuple(high - low for low, high in zip(start, stop, strict=True)))

    def inside(self, other: "Box") -> tuple[slice, ...]:
        """Return where this box lies in a tensor that holds the other one."""
        return tuple(slice(a - b, a - b + n) for a, n, b, _ in self._beside(other))

    def _beside(self, other: "Box") -> "zip[tuple[int, int, int, int]]":
        return zip(self.offset, self.shape, other.offset, other.shape, strict=True)


@dataclass(frozen=True)
class Local:
    """What this process holds of a tensor."""

    tensor: Tensor
    """The elements themselves, sharing memory with the model."""
    whole: tuple[int, ...]
    """Shape of the whole tensor."""
    box: Box
    owned: bool | None
    """Whether this process writes it; None where all processes hold the same and one of them is chosen."""


def local_of(tensor: Tensor) -> Local:
    """Return this process's piece of a tensor: of a sharded one its shard, of another one all."""
    whole, bare = tuple(tensor.shape), tensor.detach()
    if not isinstance(bare, DTensor):
        return Local(bare, whole, Box((0,) * len(whole), whole), None)
    mesh, placements = bare.device_mesh, bare.placements
    shape, offset = compute_local_shape_and_global_offset(bare.shape, mesh, placements)
    replicated = [isinstance(each, Replicate) for each in placements]
    # Of equal copies along a replicated dimension of the mesh the first one is written.
    first = all(at == 0 for at, copied in zip(mesh.get_coordinate() or (), replicated, strict=True) if copied)
    return Local(bare.to_local(), whole, Box(tuple(offset), tuple(shape)), None if all(replicated) else first)


def deal(sizes: Mapping[str, int], processes: int) -> dict[str, int]:
    """Return which process writes which of the tensors that all hold: the largest first, to who has the least."""
    load = [0] * processes
    dealt = {}
    for name in sorted(sizes, key=lambda each: (-sizes[each], each)):
        rank = load.index(min(load))
        dealt[name] = rank
        load[rank] += sizes[name]
    return dealt


def own_pieces(placed: Placed, rank: int, processes: int) -> dict[str, Local]:
    """Return what this process writes: together the processes write each element once."""
    held = {name: local_of(tensor) for name, tensor in named_tensors(placed).items()}
    dealt = deal({name: local.tensor.nbytes for name, local in held.items() if local.owned is None}, processes)
    return {
        name: local
        for name, local in held.items()
        if (dealt[name] == rank if local.owned is None else local.owned) and local.tensor.numel()
    }


def parameter_names(module: torch.nn.Module) -> dict[Tensor, str]:
    """Return the names of the parameters that learn, the same under any placement."""
    return {value: _plain(name) for name, value in module.named_parameters() if value.requires_grad}


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return what training changes in a model: parameters that learn, and buffers that are saved."""
    saved = module.state_dict().keys()
    buffers = {_plain(name): value for name, value in module.named_buffers() if name in saved}
    learning = {name: parameter for parameter, name in parameter_names(module).items()}
    return {f"{MODULE}/{name}": value for name, value in {**buffers, **learning}.items()}


def named_tensors(placed: Placed) -> dict[str, Tensor]:
    """Return everything that a restart needs as tensors: weights, and what the optimizer remembers of each.

    Raises:
        ManifestError: The optimizer remembers in a layout of its own.
    """
    found, names = weights(placed.bare), parameter_names(placed.bare)
    for parameter, memory in bare_optimizer(placed).state.items():
        if parameter not in names:
            raise ManifestError(
                "this optimizer remembers other tensors than the model's, which no state can hold; "
                "choose another schedule.optimizer"
            )
        for kind, value in memory.items():
            found[f"{OPTIMIZER}/{kind}/{names[parameter]}"] = torch.as_tensor(value)
    return found


def bare_optimizer(placed: Placed) -> torch.optim.Optimizer:
    """Return the optimizer without what accelerate put around it."""
    found: Any = getattr(placed.optimizer, "optimizer", placed.optimizer)
    return found  # type: ignore[no-any-return]


def _plain(name: str) -> str:
    for each in _WRAPPERS:
        name = name.replace(each, "")
    return name
