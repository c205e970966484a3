"""The square of all pictures against all texts, walked in blocks so that it never exists.

Each process holds the rows of its own pictures and walks over the columns of everyone's texts. Only texts
travel between processes; what a column needs of the other rows comes as sums.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.losses import own_sum, processes, same_rows, stacked

BLOCK = 2**20
"""Similarities held at once, unless a caller says how many columns: 4 MiB in single precision."""


@dataclass(frozen=True)
class Contrast:
    """A contrastive loss and what is worth knowing about it."""

    loss: Float[Tensor, ""]
    """This process's share of the loss over the global batch, with gradient."""
    sample_loss: Float[Tensor, " rows"]
    """Of each own pair, detached; their mean is `loss`."""
    meters: dict[str, Float[Tensor, ""]]
    """`positive_cosine`: mean of a pair's own; `hardest_gap`: mean lead over the likest wrong text, which counts as
    opposite where there is none; `masked_share`: of the wrong pairs, those left out as false negatives."""


@dataclass(frozen=True)
class Block:
    """Some columns of the square."""

    columns: slice
    right: tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]
    """Rows and, counted from the block's first, columns of the pairs that belong together."""
    hidden: Bool[Tensor, "rows columns"] | None
    """Pairs that count for nothing."""

    def logits(
        self,
        image_features: Float[Tensor, "rows embed_dim"],
        texts: Float[Tensor, "texts embed_dim"],
        scale: Float[Tensor, ""],
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, "rows columns"]:
        """Return scaled similarities, minus infinity for hidden pairs."""
        found = (image_features @ texts[self.columns].to(image_features.dtype).T).mul_(scale)
        if bias is not None:
            found.add_(bias)
        return found if self.hidden is None else found.masked_fill_(self.hidden, -torch.inf)


@dataclass(frozen=True)
class Pairing:
    """Which pictures and texts of the global batch belong together, and which other pairs count for nothing."""

    rows: int
    first: int
    texts: int
    width: int
    image_ids: tuple[Int[Tensor, " rows"], Int[Tensor, " texts"]] | None
    caption_ids: tuple[Int[Tensor, " rows"], Int[Tensor, " texts"]] | None
    soft: bool
    device: torch.device

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "rows embed_dim"],
        image_ids: Int[Tensor, " rows"] | None,
        caption_ids: Int[Tensor, " rows"] | None,
        soft: bool,
        columns: int | None,
    ) -> "Pairing":
        """Ask the other processes for their ids.

        Args:
            features: Of this process's pictures or texts.
            image_ids: Equal for equal pictures. Other pairs that share one are no negatives.
            caption_ids: As `image_ids`, of captions.
            soft: Pairs of equal pictures belong together, all of them.
            columns: How many texts a block has; as many as `BLOCK` allows when left out.

        Raises:
            ValueError: Processes hold unequal numbers of rows; soft targets without ids; no column in a block.
        """
        rows = features.shape[0]
        same_rows(rows, features.device)
        if soft and image_ids is None:
            raise ValueError("soft targets are shared by equal pictures: give the batch's `image_id`")
        width = max(1, BLOCK // max(1, rows)) if columns is None else columns
        if width < 1:
            raise ValueError(f"a block of {width} columns holds nothing; choose at least 1")
        rank = torch.distributed.get_rank() if processes() > 1 else 0
        return cls(
            rows,
            rank * rows,
            processes() * rows,
            width,
            None if image_ids is None else (image_ids, stacked(image_ids)),
            None if caption_ids is None else (caption_ids, stacked(caption_ids)),
            soft,
            features.device,
        )

    def blocks(self) -> Iterator[Block]:
        """Walk over all columns in order."""
        for start in range(0, self.texts, self.width):
            columns = slice(start, min(start + self.width, self.texts))
            right = self._right(columns)
            yield Block(columns, right, self._hidden(columns, right))

    def _right(self, columns: slice) -> tuple[Tensor, Tensor]:
        if self.soft and self.image_ids is not None:
            row, column = _equal(self.image_ids, columns).nonzero(as_tuple=True)
            return row, column
        begin = max(columns.start, self.first)
        own = torch.arange(begin, max(begin, min(columns.stop, self.first + self.rows)), device=self.device)
        return own - self.first, own - columns.start

    def _hidden(self, columns: slice, right: tuple[Tensor, Tensor]) -> Tensor | None:
        same = [_equal(ids, columns) for ids in (self.image_ids, self.caption_ids) if ids is not None]
        if not same:
            return None
        hidden = same[0] if len(same) == 1 else same[0] | same[1]
        hidden[right] = False
        return hidden


def _equal(ids: tuple[Tensor, Tensor], columns: slice) -> Tensor:
    own, everyone = ids
    return own[:, None] == everyone[None, columns]


class Walk:
    """What a walk over the square finds beside its loss, for the meters."""

    def __init__(self, pairing: Pairing, like: Tensor) -> None:
        """Start before the first block; `like` has the wanted type."""
        self.hardest = like.new_full((pairing.rows,), -torch.inf)
        self.hidden = like.new_zeros(())

    def see(self, block: Block, logits: Float[Tensor, "rows columns"]) -> None:
        """Take note of a block; overwrites the right pairs of its logits."""
        logits[block.right] = -torch.inf
        torch.maximum(self.hardest, logits.amax(dim=1), out=self.hardest)
        if block.hidden is not None:
            self.hidden += block.hidden.sum()


def meters(
    image_features: Float[Tensor, "rows embed_dim"],
    text_features: Float[Tensor, "rows embed_dim"],
    hardest: Float[Tensor, " rows"],
    hidden: Float[Tensor, ""],
) -> dict[str, Float[Tensor, ""]]:
    """Return the meters of `Contrast`; `hardest` are cosines, minus infinity where there is no negative."""
    with torch.no_grad():
        own = (image_features * text_features).sum(dim=1, dtype=hardest.dtype)
        rows = len(own)
        return {
            "positive_cosine": own.mean(),
            "hardest_gap": (own - hardest.clamp(min=-1)).mean(),
            "masked_share": hidden / max(1, rows * (processes() * rows - 1)),
        }


def pulled(
    pairing: Pairing,
    image_features: Float[Tensor, "rows embed_dim"],
    texts: Float[Tensor, "texts embed_dim"],
    scale: Float[Tensor, ""],
    slopes: Callable[[Block], Float[Tensor, "rows columns"]],
    text_gradient: bool,
) -> tuple[Float[Tensor, "rows embed_dim"], Float[Tensor, "rows embed_dim"] | None, Float[Tensor, ""]]:
    """Return gradients by own pictures, own texts and the scale, from those by the similarities.

    Args:
        pairing: Of the walk.
        image_features: This process's.
        texts: Everyone's.
        scale: What similarities were multiplied with.
        slopes: Returns the gradient of the sum of all processes' losses by a block's logits.
        text_gradient: Whether that by the texts is wanted; it takes an exchange with the other processes.
    """
    to_images = torch.zeros_like(image_features)
    to_texts = image_features.new_empty(texts.shape) if text_gradient else None
    for block in pairing.blocks():
        slope = slopes(block)
        to_images.addmm_(slope, texts[block.columns].to(slope.dtype))
        if to_texts is not None:
            torch.mm(slope.T, image_features, out=to_texts[block.columns])
    to_scale = (image_features * to_images).sum()
    return to_images.mul_(scale), None if to_texts is None else own_sum(to_texts.mul_(scale)), to_scale
