"""How likely a chat model finds the right answers of conversations, a pack of them at a time.

Neither logits of all places nor hidden states of the whole encoder are ever held, so that what a model was trained on
can also be measured where it was trained.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.chat import InternVLChat
from stages.chat_batches import Example, collate_packed
from stages.training.balancing import ENDLESS, Room

ROOM = Room(tokens=4096, tiles=16)
"""What is computed at once where a placement does not say; without gradients any card that holds the model has it."""


class Reading(NamedTuple):
    """What a model makes of one conversation, on the CPU: each of its learned tokens, given the right text so far."""

    losses: Float[Tensor, " learned"]
    right: Bool[Tensor, " learned"]
    """Whether it would have been chosen."""
    answers: Int[Tensor, " learned"]
    """Which answer it is part of; answers count up, from any number."""

    @property
    def answers_right(self) -> list[bool]:
        """Whether each answer would have been chosen as a whole."""
        return [bool(self.right[self.answers == number].all()) for number in self.answers.unique()]


def readings(
    chat: InternVLChat, examples: Iterable[Example], room: Room = ENDLESS, *, bf16: bool = False
) -> Iterator[Reading]:
    """Yield what a model makes of each conversation, in order.

    Args:
        chat: In evaluation mode; it computes where its weights are.
        examples: Conversations, which are made only when their turn comes.
        room: Tokens and tiles that may be computed at once; one conversation always may.
        bf16: Multiply in bfloat16, as the training did.
    """
    for pack in packs(examples, room):
        yield from _read(chat, pack, bf16)


def packs(examples: Iterable[Example], room: Room) -> Iterator[list[Example]]:
    """Yield conversations in packs, in order; one that is larger than the room has a pack of its own."""
    room = Room(room.tokens or ROOM.tokens, room.tiles or ROOM.tiles)
    pack: list[Example] = []
    tokens = tiles = 0
    for example in examples:
        more = len(example.input_ids), 0 if example.pixel_values is None else len(example.pixel_values)
        if pack and not room.holds(tokens + more[0], tiles + more[1]):
            yield pack
            pack, tokens, tiles = [], 0, 0
        pack.append(example)
        tokens, tiles = tokens + more[0], tiles + more[1]
    if pack:
        yield pack


@torch.no_grad()
def _read(chat: InternVLChat, pack: list[Example], bf16: bool) -> list[Reading]:
    device = next(chat.parameters()).device
    batch = {name: value.to(device) for name, value in collate_packed(pack).items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        found, learned = chat.predict(batch)
    # An answer is a run of learned places; the last place of a conversation predicts nothing, so none goes on.
    begins = learned & ~torch.nn.functional.pad(learned[:, :-1], (1, 0))
    answers, owners = (each[learned].cpu() for each in (begins.cumsum(dim=1), batch["sample_index"][:, 1:]))
    losses, right = found.losses.float().cpu(), found.right.cpu()
    return [
        Reading(losses[mine], right[mine], answers[mine])
        for mine in (owners == number for number in range(len(pack)))
    ]
