"""How much memory a model's training takes, counted from numbers of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from models.config import VisionConfig

Precision = Literal["float32", "bfloat16 mixed", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_BYTES: Mapping[Precision, tuple[int, int, int]] = {
    "float32": (4, 4, 8),
    # AdamW keeps a float32 copy of the weights beside its two moments.
    "bfloat16 mixed": (2, 2, 12),
    "bfloat16": (2, 2, 4),
}


@dataclass(frozen=True)
class Memory:
    """Bytes of a model in training, spread over no devices and without activations."""

    weights: int
    gradients: int
    adamw: int

    @property
    def training(self) -> int:
        """All three."""
        return self.weights + self.gradients + self.adamw


def memory(parameters: int, precision: Precision, trained: int | None = None) -> Memory:
    """Return what parameters take; only `trained` of them have gradients and AdamW's state where it is given."""
    weights, gradients, adamw = _BYTES[precision]
    learning = parameters if trained is None else trained
    return Memory(weights * parameters, gradients * learning, adamw * learning)


def checkpointed_bytes(config: VisionConfig, tokens: int, bytes_per_number: int = 2) -> int:
    """Return the bytes of activations that one picture keeps where each block keeps its input alone."""
    return config.num_hidden_layers * tokens * config.hidden_size * bytes_per_number
