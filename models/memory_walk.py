"""The most memory that a training step holds at once: its blocks, walked forward and back."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.memory_trace import Block


@dataclass(frozen=True)
class Section:
    """Blocks that run one after the other."""

    blocks: tuple[Block, ...]
    left: int | None = None
    """Bytes that stay of it where nothing goes back through it (a frozen tower); None where all is kept."""


@dataclass(frozen=True)
class Spread:
    """How weights and gradients lie over the processes."""

    processes: int = 1
    sharded: bool = False
    """In shards (FSDP2): a block's weights are gathered for it, its gradient let go of when it is spread."""
    waiting: bool = False
    """Gradients are there before the backward pass: of an earlier micro batch, or in DDP's buckets."""
    most: int | None = None
    """Bytes of all gradients in float32; blocks that share weights share gradients too. Their sum when None."""


@dataclass(frozen=True)
class Moment:
    """What a step holds at some moment beside weights and optimizer, in bytes."""

    where: str
    activations: int
    gradients: int
    gathered: int = 0
    """Weights of whole blocks, and gradients on their way, where they lie in shards."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.gradients + self.gathered


def moments(sections: Sequence[Section], spread: Spread, root: int = 0) -> list[Moment]:
    """Return the moments of a step at which most may be held: the end of each block, forward and backward.

    Args:
        sections: In the order in which they run.
        spread: How weights and gradients lie.
        root: Bytes of what is in no layer and stays gathered during the step, where weights lie in shards.
    """
    found: list[Moment] = []
    running, held = list[Block](), 0
    whole = sum(each.gradients for section in sections for each in section.blocks)
    most = whole if spread.most is None else spread.most
    # In shards, gradients are float32 whatever a block computes in.
    share = max(1, min(2, most // whole)) if whole and spread.sharded else 1
    cut = spread.processes if spread.sharded else 1
    still = most // cut
    early = still if spread.waiting else 0
    copied, most_copied = 0, most // 2  # passes that share weights share their copies
    for section in sections:
        inside = 0
        for block in section.blocks:
            gathered, there = _gathered(block, spread, root), held + inside + min(copied, most_copied)
            found.append(Moment(f"{block.name}, forward", there + block.forward, early, gathered))
            inside += block.kept
            copied += block.copies
        if section.left is None:
            running += section.blocks
        held += inside if section.left is None else section.left
    done = 0
    for block in reversed(running):
        held -= block.kept
        inside = max(block.backward - block.gradients, 0)
        if spread.sharded:
            on_the_way = _gathered(block, spread, root) + 2 * block.gradients
            spread_out = early or min(share * done, most) // cut
            found.append(Moment(f"{block.name}, backward", held + inside, spread_out, on_the_way))
        elif spread.waiting:
            # Each gradient is made beside the sum that it is added to.
            found.append(Moment(f"{block.name}, backward", held + inside, early + block.gradients // 2))
        else:
            found.append(Moment(f"{block.name}, backward", held + inside, min(done + block.gradients, most)))
        done += block.gradients
    found.append(Moment("the optimizer", 0, still))
    return found


def _gathered(block: Block, spread: Spread, root: int) -> int:
    """Return the bytes of gathered weights: this block's, the next one's ahead of time, and the root's."""
    return root + 2 * block.weights if spread.sharded else 0


def worst(sections: Sequence[Section], spread: Spread, root: int = 0) -> Moment:
    """Return the moment at which a step holds most; arguments as of `moments`."""
    return max(moments(sections, spread, root), key=lambda each: each.total)
