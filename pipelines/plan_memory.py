"""How much memory each training stage of a recipe takes of a GPU, and how much it computes at once that fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from models.memory_blocks import How
from models.memory_forecast import FRAMEWORK, Forecast, forecast
from models.memory_trace import Block, Numbers
from models.memory_walk import Section, Spread
from models.step_shape import Shape
from stages.calibration import pieces_of
from stages.placement import Placement, Sharding


@dataclass(frozen=True)
class Fit:
    """What a stage takes in one way of lying over the processes."""

    sharding: Sharding
    rows: int
    """Computed at once."""
    memory: Forecast
    largest: int
    """Most rows at once, of powers of two up to a process's share, that fit; 0 where not one does."""


def fit(
    shape: Shape,
    parameters: int,
    trained: int,
    placement: Placement,
    *,
    global_batch: int,
    precision: str,
    sharding: Sharding,
    room: int,
) -> Fit:
    """Return the memory of a stage at its placement, and the largest micro batch that its card holds.

    Args:
        shape: What it computes.
        parameters: Of the whole model.
        trained: Those that learn.
        placement: Processes, and rows at once.
        global_batch: Rows of a step, of all processes.
        precision: `fp32` or `bf16`.
        sharding: How the model lies over the processes.
        room: Bytes of the card, 0 where there is none.
    """
    rows, pieces = pieces_of(shape, placement, global_batch)
    share = 1 if shape.packed else rows * pieces
    sharded = sharding == "fsdp2" and placement.workers > 1
    how = How(Numbers.of(precision, sharded), placement.activation_checkpointing)

    @cache
    def at(count: int) -> Forecast:
        sections = shape.sections(count, how, global_batch)
        ddp = placement.workers > 1 and not sharded
        spread = Spread(placement.workers, sharded, waiting=ddp or (pieces > 1 if shape.packed else count < share))
        return forecast(
            sections,
            parameters,
            trained,
            spread,
            root=_root(sections) if sharded else 0,
            batch=rows * pieces * shape.picture_bytes(),
            kept=shape.stays + (share - count) * shape.seen_bytes(),
            framework=FRAMEWORK if placement.gpus_per_worker else 0,
        )

    return Fit(sharding, rows, at(rows), _largest(at, share, room) if room else 0)


def _root(sections: Sequence[Section]) -> int:
    """Return the bytes of what is in no layer: it stays gathered from the first use on."""
    blocks: dict[Block, None] = {block: None for section in sections for block in section.blocks}
    return sum(block.weights for block in blocks if not block.name.endswith("layer"))


def _largest(at: Callable[[int], Forecast], share: int, room: int) -> int:
    """Return the largest power of two up to a share, or the share, that fits."""
    tried = [2**power for power in range(share.bit_length()) if 2**power < share] + [share]
    found = 0
    for count in tried:
        if at(count).total > room:
            return found
        found = count
    return found


def both(
    shape: Shape,
    parameters: int,
    trained: int,
    placement: Placement,
    *,
    global_batch: int,
    precision: str,
    room: int,
) -> list[Fit]:
    """Return the fits of both ways of lying over the processes, the placement's own first; arguments as of `fit`."""
    ways: list[Sharding] = ["ddp", "fsdp2"]
    ways.sort(key=lambda each: each != placement.sharding)
    return [
        fit(
            shape,
            parameters,
            trained,
            placement,
            global_batch=global_batch,
            precision=precision,
            sharding=each,
            room=room,
        )
        for each in ways
    ]
