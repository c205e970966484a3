"""The memory of one process in training, by category: states from counts, the rest from the blocks of its step.

Weights are float32 wherever they lie: they are the master copy, and AdamW keeps two more numbers of each. What
computes in bfloat16 are copies: made by autocast, where each process holds the whole model, or gathered by FSDP2.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from models.memory_trace import Block
from models.memory_walk import Moment, Section, Spread, worst

MASTER, MOMENTS = 4, 8
"""Bytes of a weight in float32, and of AdamW's two moments of it."""
FRAMEWORK = 1_500_000_000
"""Ours: what CUDA's context, NCCL's buffers and the allocator's gaps take of a GPU beside all tensors."""


@dataclass(frozen=True)
class Forecast:
    """Bytes of one process at the moment at which it holds most."""

    weights: int
    """Float32: the master copy."""
    optimizer: int
    gradients: int
    activations: int
    loss: int
    """Logits, similarities and what the loss makes of them: of activations, when the worst moment is there."""
    gathered: int
    """Weights gathered from shards, and gradients on their way into them."""
    batch: int
    framework: int
    where: str
    """The moment."""

    @property
    def total(self) -> int:
        """All of it."""
        found = (self.weights, self.optimizer, self.gradients, self.activations, self.loss, self.gathered)
        return sum(found) + self.batch + self.framework

    def as_json(self) -> dict[str, int | str]:
        """Return it as plain values, the total with it."""
        return {**asdict(self), "total": self.total}


def forecast(
    sections: Sequence[Section],
    parameters: int,
    trained: int,
    spread: Spread,
    *,
    root: int = 0,
    batch: int = 0,
    kept: int = 0,
    framework: int = 0,
) -> Forecast:
    """Return what a process holds.

    Args:
        sections: Of a step, see `models.memory_blocks`.
        parameters: Of the whole model, also those that no block has.
        trained: Those that learn.
        spread: How they lie over the processes.
        root: Bytes of what stays gathered during a step; see `models.memory_walk.moments`.
        batch: Bytes of what a step's micro batches hold on the device.
        kept: Bytes that stay from step to step, such as what frozen towers saw.
        framework: Bytes beside all tensors.
    """
    cut = spread.processes if spread.sharded else 1
    moment = worst(sections, replace(spread, most=MASTER * trained), root)
    in_loss = moment.activations if _is_loss(moment) else 0
    loss = min(in_loss, _largest_loss(sections))
    return Forecast(
        weights=MASTER * parameters // cut,
        optimizer=MOMENTS * trained // cut,
        gradients=moment.gradients,
        activations=moment.activations - loss + kept,
        loss=loss,
        gathered=moment.gathered,
        batch=batch,
        framework=framework,
        where=moment.where,
    )


LOSSES = ("head and loss", "contrast")
"""Blocks that compute a loss."""


def _is_loss(moment: Moment) -> bool:
    return moment.where.startswith(LOSSES)


def _largest_loss(sections: Sequence[Section]) -> int:
    return max((_own(block) for section in sections for block in section.blocks if block.name in LOSSES), default=0)


def _own(block: Block) -> int:
    return max(block.forward, block.backward - block.gradients)
