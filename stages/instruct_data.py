"""The conversations that the instruct stage learns from, of one artifact or of several, and batches of them."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from torch import Tensor

from models.cost import ConversationCost
from models.packing import Reduction
from stages.chat_data import Conversations, Example, collate, collate_packed
from stages.manifest import ManifestError
from stages.noise import noise_of
from stages.training.balancing import ENDLESS, Load, Room
from stages.training.order import Source, Weight, check_weights
from stages.training.task import SampleFacts


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
    ) -> None:
        """Take conversations that were rendered already.

        Args:
            data: Those of each artifact.
            filler: Token in places that nothing reads.
            cost: What a conversation costs in a step; they are shared out by it.
            reduction: How learned tokens weigh.
            seed: Of the noise that comes with each tile, for stochastic depth.
        """
        self.data, self._filler, self._seed = list(data), filler, seed
        self._cost, self._reduction = cost, reduction
        self._starts = [0, *accumulate(map(len, self.data))]

    def __len__(self) -> int:
        """Return how many conversations there are."""
        return self._starts[-1]

    @property
    def left_out(self) -> dict[str, int]:
        """How many cannot be learned from, by reason."""
        return dict(sorted(sum((each.left_out for each in self.data), Counter[str]()).items()))

    def _at(self, row: int) -> tuple[int, int]:
        """Return which artifact a row is of, and its number there."""
        source = bisect_right(self._starts, row) - 1
        return source, row - self._starts[source]

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        """Return conversations end to end in one row, and the tiles of all their pictures."""
        return collate_packed([self._noisy(row, step) for row in rows], self._reduction)

    def load(self, row: int) -> Load:
        """Return what a conversation takes of a step."""
        source, number = self._at(row)
        size = self.data[source].size(number)
        return Load(self._cost(*size), size.tokens, size.tiles)

    def check_room(self, room: Room) -> None:
        """Refuse, before training starts, packs that are too small for a conversation.

        Raises:
            ManifestError: One is larger.
        """
        large = (row for row in range(len(self)) if not room.holds(*self.load(row)[1:]))
        if room == ENDLESS or (row := next(large, None)) is None:
            return
        _, tokens, tiles = self.load(row)
        raise ManifestError(
            f"{self.data[self._at(row)[0]].name}: conversation {self.facts(row).uid} has {tokens} tokens and {tiles} "
            f"tiles, more than max_packed_tokens {room.tokens} and max_packed_tiles {room.tiles} of the placement "
            "let a pack hold; raise them, or lower instruct.context_length or instruct.max_dynamic_patch"
        )

    def _noisy(self, row: int, step: int) -> Example:
        found = self.example(row)
        tiles = 0 if found.pixel_values is None else len(found.pixel_values)
        return replace(found, noise=noise_of(self._seed, step, row, tiles)) if tiles else found

    def padded(self, rows: Sequence[int], pictures: Sequence[int]) -> dict[str, Tensor]:
        """Return a row per conversation, each with the picture of the other row named beside it."""
        pairs = zip(rows, pictures, strict=True)
        return collate([self.example(row, picture) for row, picture in pairs], self._filler)

    def example(self, row: int, picture: int | None = None) -> Example:
        """Return a conversation with its picture, or with another row's in its size."""
        source, number = self._at(row)
        if picture is None or picture == row:
            return self.data[source].example(number)
        other, shown = self._at(picture)
        return self.data[source].example(number, self.data[other].picture(shown))

    def facts(self, row: int) -> SampleFacts:
        """Return what a conversation is known by."""
        source, number = self._at(row)
        return self.data[source].facts(number)

    def sources(self, held_out: int, weights: Sequence[Weight]) -> list[Source]:
        """Return what may be trained on: all but the last `held_out` of each artifact.

        Raises:
            ManifestError: An artifact has too few; or the weights do not name what there is.
        """
        check_weights(weights or [Weight(name=each.name, repeat=1.0) for each in self.data], self.names)
        shares = {each.name: each for each in weights}
        found = []
        for start, data in zip(self._starts, self.data, strict=False):
            if len(data) <= held_out:
                raise ManifestError(
                    f"{data.name}: {len(data)} conversations can be learned from (left out: "
                    f"{dict(data.left_out) or 'none'}) and {held_out} are to be kept aside; lower "
                    "instruct.held_out, or make more conversations"
                )
            shards = data.first_of_shards(len(data) - held_out)
            samples = sum(shards)
            weight = shares[data.name].of(samples) if shares else float(samples)
            found.append(Source(data.name, shards, weight, start))
        return found

    @property
    def names(self) -> list[str]:
        """The artifacts, in the order of their rows."""
        return [each.name for each in self.data]

    def held_out(self, held_out: int) -> list[int]:
        """Return the rows that are kept aside: the last of each artifact."""
        return [row for end in self._starts[1:] for row in range(end - held_out, end)]
