"""The conversations that the instruct stage learns from, of one artifact or of several, and batches of them."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from torch import Tensor

from stages.batches import generator_of
from stages.chat_data import Conversations, Example, collate, collate_packed
from stages.manifest import ManifestError
from stages.noise import noise_of
from stages.training.order import Source, Weight, check_weights
from stages.training.task import SampleFacts


class InstructBatches:
    """Conversations by number, those of one artifact after those of another, as packed rows."""

    def __init__(
        self, data: Sequence[Conversations], filler: int, context_length: int, seed: int = 0, blind: bool = False
    ) -> None:
        """Take conversations that were rendered already.

        Args:
            data: Those of each artifact.
            filler: Token in places that nothing reads.
            context_length: Most tokens of a row.
            seed: Of the noise that comes with each tile, for stochastic depth.
            blind: Train on each conversation with the picture of another.
        """
        self.data, self._filler, self._tokens, self._seed = list(data), filler, context_length, seed
        self._blind = blind
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
        """Return conversations as rows that hold as many as fit, and the tiles of all their pictures."""
        return collate_packed([self._noisy(row, step) for row in rows], self._filler, self._tokens)

    def _noisy(self, row: int, step: int) -> Example:
        found = self.example(row, self.stranger(row) if self._blind else None)
        tiles = 0 if found.pixel_values is None else len(found.pixel_values)
        return replace(found, noise=noise_of(self._seed, step, row, tiles)) if tiles else found

    def stranger(self, row: int) -> int:
        """Return the other row whose picture a blind run shows with this one, the same at every step."""
        if len(self) < 2:
            raise ManifestError("a blind run needs a second conversation; make more of them")
        return (row + 1 + int(generator_of(self._seed, "blind", row).integers(len(self) - 1))) % len(self)

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
