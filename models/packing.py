"""Several samples in one row, none of which sees another, as InternVL 2.5 trains (arXiv:2412.05271)."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

Reduction = Literal["token", "sample", "square"]


@dataclass(frozen=True)
class Packing:
    """The samples of a batch of rows, in reading order; padding counts as a sample that nobody reads.

    Attributes:
        lengths: Tokens of each sample, row after row.
        starts: Where each begins when rows are laid end to end, and the end, int32, shape (samples + 1,).
        positions: Each token's place within its sample.
    """

    lengths: tuple[int, ...]
    starts: Int32[Tensor, " borders"]
    positions: Int[Tensor, "batch tokens"]

    @classmethod
    def of(cls, sample_index: Int[Tensor, "batch tokens"]) -> "Packing":
        """Read a packing off the number of each token's sample.

        Numbers may be any; they name a sample within its row only.

        Raises:
            ValueError: A sample lies in two places of a row, or the index is no (batch, tokens).
        """
        if sample_index.ndim != 2:
            raise ValueError(f"sample_index has the shape {tuple(sample_index.shape)}, not (batch, tokens)")
        lengths: list[int] = []
        places: list[list[int]] = []
        for number, row in enumerate(sample_index.tolist()):
            runs = [(name, len(list(run))) for name, run in groupby(row)]
            if len({name for name, _ in runs}) < len(runs):
                raise ValueError(f"a sample of row {number} lies in two places; its tokens must follow each other")
            lengths += [length for _, length in runs]
            places.append([place for _, length in runs for place in range(length)])
        device = sample_index.device
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(tuple(lengths), starts, torch.tensor(places, device=device))

    @classmethod
    def end_to_end(cls, attention_mask: Int[Tensor, "samples tokens"]) -> "Packing":
        """Return the packing of all samples of a padded batch in one row, which `tokens[mask.bool()][None]` fills.

        Raises:
            ValueError: A sample has no token.
        """
        counts = attention_mask.sum(dim=1)
        lengths: tuple[int, ...] = tuple(counts.tolist())
        if not all(lengths):
            raise ValueError(f"sample {lengths.index(0)} of the batch has no token; its attention mask is all zeros")
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        places = torch.arange(sum(lengths), device=counts.device)
        positions = places - starts[:-1].repeat_interleave(counts, output_size=len(places))
        return cls(lengths, starts.int(), positions[None])

    @cached_property
    def by_length(
        self,
    ) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"], tuple[tuple[int, int], ...]]:
        """How to lay samples of equal length side by side.

        Returns:
            The order of the tokens, rows end to end, that groups samples by length; the order that undoes it; and
            (length, samples) of each group.
        """
        device = self.starts.device
        groups: dict[int, list[int]] = {}
        for length, start in zip(self.lengths, accumulate(self.lengths, initial=0), strict=False):
            groups.setdefault(length, []).append(start)
        spread = [
            (torch.tensor(starts)[:, None] + torch.arange(length)).flatten() for length, starts in groups.items()
        ]
        order = torch.cat(spread)
        sizes = tuple((length, len(starts)) for length, starts in groups.items())
        return order.to(device), order.argsort().to(device), sizes

    @property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        return max(self.lengths)

    def lengths_of_tokens(self) -> Int[Tensor, "batch tokens"]:
        """Return for each token how long its sample is."""
        device = self.positions.device
        lengths = torch.tensor(self.lengths, device=device)
        return lengths.repeat_interleave(lengths).view_as(self.positions)


def learned_places(
    labels: Int[Tensor, "batch tokens"], sample_index: Int[Tensor, "batch tokens"] | None, ignore: int
) -> Bool[Tensor, "batch tokens-1"]:
    """Return which places predict a token that is learned, booleans of shape (batch, tokens - 1).

    The last token of a sample predicts nothing: what follows is another sample's first.
    """
    learned = labels[:, 1:] != ignore
    if sample_index is None:
        return learned
    return learned & (sample_index[:, 1:] == sample_index[:, :-1])


def loss_weights(
    learned: Bool[Tensor, "batch places"], sample_index: Int[Tensor, "batch places+1"], reduction: Reduction
) -> Float[Tensor, "batch places"]:
    """Return the weight of each learned place.

    With x learned tokens in a sample each weighs 1 (`token`), 1/x (`sample`) or 1/sqrt(x) (`square`,
    between both, the choice of InternVL 2.5, arXiv:2412.05271).

    Args:
        learned: As `learned_places` gives it.
        sample_index: The number of each token's sample.
        reduction: Which of the three.
    """
    if reduction == "token":
        return learned.float()
    index = sample_index[:, 1:]
    least, names = index.min(), int(index.max() - index.min()) + 1
    # A number names a sample within its row: those of other rows are moved apart.
    owners = index - least + names * torch.arange(len(index), device=index.device)[:, None]
    counts = torch.zeros(len(index) * names, device=index.device)
    counts.index_add_(0, owners.flatten(), learned.flatten().float())
    count = counts.clamp(min=1)[owners]
    return learned * (1 / count if reduction == "sample" else count.rsqrt())
