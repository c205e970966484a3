"""Numbers recorded from a run of other code, and how far ours are from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.renaming import State

TOLERANCE = 1e-5
"""Of outputs, in single precision: two programs that add in another order are closer than this."""
GRADIENT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Line:
    """How far one thing is from what was recorded."""

    what: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is small enough; one that is no number is not."""
        return self.error <= self.tolerance


def relative_error(ours: Tensor, recorded: Tensor) -> float:
    """Return the largest difference relative to the largest recorded magnitude; infinite for another shape."""
    if ours.shape != recorded.shape:
        return float("inf")
    if recorded.numel() == 0:
        return 0.0
    gap = float((ours.detach().double() - recorded.double()).abs().max())
    largest = float(recorded.double().abs().max())
    return gap / largest if largest else gap and float("inf")


def equal(what: str, ours: Any, recorded: Any) -> Line:
    """Return a line for something that must be the very same."""
    same_thing = ours == recorded
    return Line(what, 0.0 if same_thing else float("inf"), 0.0, "" if same_thing else f"{ours!r} is not {recorded!r}")


@dataclass
class Recording:
    """Tensors of one recording, which remember what was asked for: nothing recorded may stay unread."""

    tensors: Mapping[str, Tensor]
    lines: list[Line] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Tensor:
        """Return an input or an output.

        Raises:
            ValueError: It was not recorded.
        """
        if name not in self.tensors:
            raise ValueError(f"the recording holds no {name!r}")
        self.read.add(name)
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        """Say whether something was recorded."""
        return name in self.tensors

    def below(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """Go through what is recorded below a prefix."""
        for name in sorted(self.tensors):
            if name.startswith(prefix):
                yield name.removeprefix(prefix), self[name]

    def weights(self) -> State:
        """Return the recorded weights, under the official names."""
        return dict(self.below("w."))

    def near(self, what: str, ours: Tensor, tolerance: float = TOLERANCE, note: str = "") -> None:
        """Compare, where it was recorded."""
        if what not in self:
            return
        recorded = self[what]
        if ours.shape != recorded.shape:
            note = f"shape {tuple(ours.shape)} is not {tuple(recorded.shape)}"
        self.lines.append(Line(what, relative_error(ours, recorded), tolerance, note))

    def gradients(self, found: State) -> None:
        """Compare all recorded gradients with ours, under the official names."""
        for name, _ in self.below("grad."):
            if name in found:
                self.near(f"grad.{name}", found[name], GRADIENT_TOLERANCE)
            else:
                self.lines.append(Line(f"grad.{name}", float("inf"), GRADIENT_TOLERANCE, "no weight of this name"))

    def close(self) -> list[Line]:
        """Return all lines; what was recorded and not compared is one too."""
        unread = sorted(name for name in self.tensors if name not in self.read)
        return self.lines + [Line(name, float("inf"), 0.0, "recorded, but not understood") for name in unread]


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradient of every parameter, zeros where there is none."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
