"""What a piece of a model holds in memory while it trains: the piece itself is run, on tensors without numbers.

Shapes and types go through PyTorch's own operations and their gradients (`FakeTensorMode`), so what autograd keeps is
what it would keep, and nothing is allocated. Counted are storages, each once, as long as anything holds them; what
a kernel takes for itself within one operation is not seen.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


class Ledger(TorchDispatchMode):
    """Counts the bytes of storages that operations make while it is entered, as long as they are held."""

    def __init__(self, before: Sequence[Any]) -> None:
        """Start with nothing.

        Args:
            before: What was there already and does not count: tensors, among other things.
        """
        super().__init__()
        self.live = self.peak = 0
        self._known = {each.untyped_storage()._cdata for each in tree_leaves(before) if isinstance(each, Tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and take note of the storages it made."""
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor):
                self._note(each.untyped_storage())
        return found

    def begin_backward(self) -> int:
        """Return the peak so far, and forget it."""
        peak, self.peak = self.peak, self.live
        return peak

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@dataclass(frozen=True)
class Block:
    """A piece of a step, in bytes; what was there before it (weights, its input) is not counted."""

    name: str
    kept: int
    """Held from its forward to its backward pass: what it returns, and what autograd keeps."""
    forward: int
    """Most that it holds at once while it runs forward, what it keeps among it."""
    backward: int
    """Most while it runs backward: what it kept, gradients of activations and of its weights."""
    gradients: int = 0
    """Of its weights that learn: held from its backward pass on."""
    weights: int = 0
    """All of its weights, as they compute: gathered for it where they lie in shards."""
    copies: int = 0
    """Of its weights in bfloat16 that autocast makes and keeps to the end of the whole forward pass, where autograd
    does not keep them anyway."""


@dataclass(frozen=True)
class Numbers:
    """In which types a piece computes."""

    weights: torch.dtype = torch.float32
    autocast: bool = False
    """Weights in float32, products in bfloat16; what `accelerate` does where nothing lies in shards."""

    @classmethod
    def of(cls, precision: str, sharded: bool) -> "Numbers":
        """Return those of a schedule's precision; in shards, weights are gathered in bfloat16."""
        if precision == "fp32":
            return cls()
        return cls(torch.bfloat16 if sharded else torch.float32, True)

    @contextmanager
    def default(self) -> Iterator[None]:
        """Let tensors be made in the type of the weights."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.weights)
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    def copies(self, module: nn.Module) -> int:
        """Return the bytes of copies that autocast keeps: of matrices that learn, and of what is single precision."""
        if not self.autocast or self.weights != torch.float32:
            return 0
        return sum(2 * each.numel() for each in module.parameters() if each.requires_grad and each.ndim > 1)

    def context(self) -> Any:
        """Open autocast, or nothing."""
        return torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext()


def trace(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[], Sequence[Any]],
    run: Callable[..., Any] = lambda module, *given: module(*given),
    *,
    before: Callable[..., Sequence[Any]] | None = None,
    learns: Callable[[str], bool] = lambda _: True,
    numbers: Numbers = Numbers(),
    recompute: bool = False,
) -> Block:
    """Return what a module holds.

    Args:
        name: How the block is called.
        make: Makes the module.
        inputs: Makes what it is called with: tensors with `requires_grad` where something before it learns.
        run: How it is called; returns a tensor, or several of which the first carries the gradient.
        before: What is done with the inputs first, outside of what is computed again.
        learns: Whether the weight of this name does.
        numbers: Types that it computes in.
        recompute: Compute the inside again for the backward pass (activation checkpointing).
    """
    # Made on the meta device, where weights are not drawn: drawing looks at numbers.
    with torch.device("meta"), numbers.default():
        module = make()
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = module.to_empty(device="cpu")
        with numbers.default():
            given = list(inputs())
        for each, parameter in module.named_parameters():
            parameter.requires_grad_(learns(each))
        with Ledger([*module.parameters(), *module.buffers(), *given]) as ledger:
            with numbers.context():
                given = given if before is None else list(before(*given))
                found = checkpoint(run, module, *given, use_reentrant=False) if recompute else run(module, *given)
            first = found if isinstance(found, Tensor) else found[0]
            kept, forward = ledger.live, ledger.begin_backward()
            if first.requires_grad:
                first.backward(torch.empty_like(first))
            backward = ledger.peak if first.requires_grad else 0
        sizes = [(each.numel() * each.element_size(), each.requires_grad) for each in module.parameters()]
    learned, whole = sum(size for size, learned in sizes if learned), sum(size for size, _ in sizes)
    # What is not computed again is saved for the backward pass, copies with it.
    copies = numbers.copies(module) if recompute else 0
    return Block(name, kept, forward, backward, learned, whole, copies)
