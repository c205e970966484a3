"""The conversations that the instruct stage learns from, of one artifact or of several, and batches of them."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from models.cost import ConversationCost
from models.packing import Reduction
from stages.batches import generator_of
from stages.chat_batches import Example, collate_packed, no_picture
from stages.chat_data import Conversations
from stages.held_out import Rows, nothing_aside, only_one_picture, stranger
from stages.manifest import ManifestError
from stages.noise import noise_of
from stages.training.balancing import ENDLESS, Load, Room
from stages.training.order import Source, Weight, check_weights
from stages.training.task import SampleFacts

JPEG_QUALITIES = (75, 100)
"""Lowest and highest that is drawn for pictures whose source asks for degraded ones (internvl-chat's training)."""

BETWEEN = "some of its pictures are kept aside and others are not"
"""Why a conversation about several pictures is neither trained on nor measured."""


class InstructBatches:
    """Conversations by number, those of one artifact after those of another, packed end to end."""

    def __init__(
        self,
        data: Sequence[Conversations],
        filler: int,
        *,
        cost: ConversationCost,
        reduction: Reduction = "token",
        seed: int = 0,
        sample_noise: bool = False,
        blind: bool = False,
    ) -> None:
        """Take conversations that were rendered already.

        Args:
            data: Those of each artifact.
            filler: Token in places that nothing reads.
            cost: What a conversation costs in a step; they are shared out by it.
            reduction: How learned tokens weigh.
            seed: Of the noise that comes with each tile, for stochastic depth.
            sample_noise: Whether each conversation brings some too, for dropout of adapters.
            blind: Train on each conversation with the pictures of another.
        """
        self.data, self._filler, self._seed = list(data), filler, seed
        self._cost, self._reduction, self._sample_noise, self._blind = cost, reduction, sample_noise, blind
        self._starts = [0, *accumulate(map(len, self.data))]
        self.rows: Rows = np.arange(len(self))
        """The conversations that batches number from 0: all, until it is settled what is trained on."""
        self.aside: list[int] = []
        """Those kept aside that are measured."""
        self._between = 0

    def __len__(self) -> int:
        """Return how many conversations there are."""
        return self._starts[-1]

    @property
    def left_out(self) -> dict[str, int]:
        """How many cannot be learned from, by reason."""
        between = Counter({BETWEEN: self._between} if self._between else {})
        return dict(sorted(sum((each.left_out for each in self.data), between).items()))

    def _at(self, row: int) -> tuple[int, int]:
        """Return which artifact a row is of, and its number there."""
        source = bisect_right(self._starts, row) - 1
        return source, row - self._starts[source]

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return conversations end to end in one row, and the tiles of all their pictures."""
        found = self.rows[list(rows)].tolist()
        batch = collate_packed([self._noisy(row, step) for row in found], self._reduction)
        if self._sample_noise:
            batch["sample_noise"] = torch.cat([noise_of(self._seed, step, row) for row in found])
        return batch if "pixel_values" in batch else {**batch, **no_picture(self.data[0].config)}

    def load(self, row: int) -> Load:
        """Return what a conversation that is trained on takes of a step."""
        return self._load(int(self.rows[row]))

    def _load(self, number: int) -> Load:
        source, place = self._at(number)
        size = self.data[source].size(place)
        return Load(self._cost(*size), size.tokens, size.tiles)

    def check_room(self, room: Room) -> None:
        """Refuse, before training starts, packs that are too small for a conversation.

        Raises:
            ManifestError: One is larger.
        """
        large = (number for number in range(len(self)) if not room.holds(*self._load(number)[1:]))
        if room == ENDLESS or (number := next(large, None)) is None:
            return
        _, tokens, tiles = self._load(number)
        source, place = self._at(number)
        raise ManifestError(
            f"{self.data[source].name}: conversation {self.data[source].facts(place).uid} has {tokens} tokens and "
            f"{tiles} tiles, more than max_packed_tokens {room.tokens} and max_packed_tiles {room.tiles} of the "
            "placement let a pack hold; raise them, or lower instruct.context_length or instruct.max_dynamic_patch"
        )

    def _noisy(self, row: int, step: int) -> Example:
        if self._blind:
            found = self.example(row, self.stranger(row))
        else:
            source, number = self._at(row)
            quality = int(generator_of(self._seed, "jpeg", step, row).integers(*JPEG_QUALITIES, endpoint=True))
            found = self.data[source].example(number, jpeg_quality=quality)
        tiles = 0 if found.pixel_values is None else len(found.pixel_values)
        return replace(found, noise=noise_of(self._seed, step, row, tiles)) if tiles else found

    def stranger(self, row: int) -> int:
        """Return the row that is trained on whose picture, another one, a blind run shows with this row.

        It is the same at every step.

        Raises:
            ManifestError: All rows show the same picture.
        """
        start = int(generator_of(self._seed, "blind", row).integers(len(self.rows)))
        if (found := stranger(row, self.rows, start, self.told_by)) is None:
            raise only_one_picture(" and ".join(each.name for each in self.data))
        return found

    def example(self, row: int, picture: int | None = None) -> Example:
        """Return a conversation with its picture, or with another row's in its size."""
        source, number = self._at(row)
        if picture is None or picture == row:
            return self.data[source].example(number)
        other, shown = self._at(picture)
        return self.data[source].example(number, self.data[other].pictures(shown))

    def told_by(self, row: int) -> tuple[int, int]:
        """Return the lowest and the highest fingerprint of the pictures of any conversation."""
        source, number = self._at(row)
        return self.data[source].told_by(number)

    def facts(self, row: int) -> SampleFacts:
        """Return what a conversation is known by."""
        source, number = self._at(int(self.rows[row]))
        return self.data[source].facts(number)

    def divide(self, share: float, held_out: int, weights: Sequence[Weight]) -> list[Source]:
        """Settle what is trained on, which batches number from 0 from now on, and what is measured.

        Args:
            share: Of all pictures that is kept aside.
            held_out: Most conversations of each artifact that are measured.
            weights: How much comes from which artifact; all once when empty.

        Returns:
            What is trained on, by artifact.

        Raises:
            ManifestError: Nothing of an artifact is left to train on, or nothing of all to measure; or the weights
                do not name what there is.
        """
        check_weights(weights or [Weight(name=each.name, repeat=1.0) for each in self.data], self.names)
        shares = {each.name: each for each in weights}
        found: list[Source] = []
        taught: list[Rows] = []
        self.aside, self._between = [], 0
        for start, data in zip(self._starts, self.data, strict=False):
            rows = data.divided(share, held_out)
            count = len(rows.taught)
            weight = shares[data.name].of(count) if shares else float(count)
            found.append(Source(data.name, data.in_shards(rows.taught.tolist()), weight, sum(map(len, taught))))
            taught.append(rows.taught + start)
            self.aside += (rows.aside + start).tolist()
            self._between += rows.between
        if not self.aside:
            raise nothing_aside(", ".join(each.told for each in self.data), len(self), share)
        self.rows = np.concatenate(taught)
        return found

    @property
    def names(self) -> list[str]:
        """The artifacts, in the order of their rows."""
        return [each.name for each in self.data]
