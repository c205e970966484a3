"""The symmetric contrastive loss over a global batch that no process ever holds as a square.

Forward and backward walk over blocks of columns (`models.pair_blocks`) and compute the similarities anew.
Both directions share one walk: a row's softmax is known when the walk ends, a column's when the processes have
added up what each saw of it. So only texts are gathered, and a step takes four products of the square's size
where two separate directions take six and remember them.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.layers import wide
from models.losses import processes, stacked
from models.pair_blocks import Block, Contrast, Pairing, Walk, meters, pulled


class _Sums:
    """What each row, or each column, of the square adds up to."""

    def __init__(self, length: int, like: Tensor) -> None:
        """Start before the first block."""
        self.log_sum: Tensor = like.new_full((length,), -torch.inf)
        self.right, self.rights, self.kept, self.keeps = like.new_zeros(4, length).unbind()

    def see(self, block: Block, logits: Tensor, smoothing: float, *, columns: bool) -> None:
        """Add a block."""
        where, dim = (block.columns, 0) if columns else (slice(None), 1)
        self.log_sum[where] = torch.logaddexp(self.log_sum[where], logits.logsumexp(dim))
        right = logits[block.right]
        self.right[where].index_add_(0, block.right[columns], right)
        self.rights[where].index_add_(0, block.right[columns], torch.ones_like(right))
        if smoothing:
            hidden = block.hidden
            self.kept[where] += (logits if hidden is None else logits.masked_fill(hidden, 0)).sum(dim)
            self.keeps[where] += logits.shape[dim] if hidden is None else (~hidden).sum(dim)

    def over_processes(self) -> None:
        """Add up columns of which each process saw its own rows."""
        if processes() == 1:
            return
        peak = self.log_sum.clone()
        dist.all_reduce(peak, dist.ReduceOp.MAX)
        sums = torch.stack([(self.log_sum - peak).exp(), self.right, self.rights, self.kept, self.keeps])
        dist.all_reduce(sums)
        self.log_sum = peak + sums[0].log()
        self.right, self.rights, self.kept, self.keeps = sums[1:].unbind()

    def losses(self, smoothing: float) -> Tensor:
        """Return the cross-entropy of each row or column."""
        hard = self.log_sum - (1 - smoothing) * self.right / self.rights
        return hard - smoothing * self.kept / self.keeps if smoothing else hard


class _InfoNCE(torch.autograd.Function):
    """Losses of own pictures and of own texts, shape (2, rows), and the meters' findings."""

    @staticmethod
    def forward(
        context: Any, image_features: Tensor, text_features: Tensor, scale: Tensor, pairing: Pairing, smoothing: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        texts = stacked(text_features)
        images = wide(image_features)
        factor = scale.to(images.dtype)
        rows, columns, walk = _Sums(pairing.rows, images), _Sums(pairing.texts, images), Walk(pairing, images)
        for block in pairing.blocks():
            logits = block.logits(images, texts, factor)
            rows.see(block, logits, smoothing, columns=False)
            columns.see(block, logits, smoothing, columns=True)
            walk.see(block, logits)
        columns.over_processes()
        context.save_for_backward(image_features, texts, scale)
        context.pairing, context.smoothing, context.rows, context.columns = pairing, smoothing, rows, columns
        own = slice(pairing.first, pairing.first + pairing.rows)
        losses = torch.stack([rows.losses(smoothing), columns.losses(smoothing)[own]])
        hardest = walk.hardest / factor
        context.mark_non_differentiable(hardest, walk.hidden)
        return losses, hardest, walk.hidden

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image_features, texts, scale = context.saved_tensors
        rows: _Sums = context.rows
        columns: _Sums = context.columns
        smoothing: float = context.smoothing
        by_row, by_column = gradients[0][0], stacked(gradients[0][1])
        images, factor = image_features.to(by_row.dtype), scale.to(by_row.dtype)
        row_pull, column_pull = (1 - smoothing) * by_row / rows.rights, (1 - smoothing) * by_column / columns.rights

        def slopes(block: Block) -> Tensor:
            logits, span = block.logits(images, texts, factor), block.columns
            slope = (logits - rows.log_sum[:, None]).exp_().mul_(by_row[:, None])
            slope += logits.sub_(columns.log_sum[span]).exp_().mul_(by_column[span])
            slope[block.right] -= row_pull[block.right[0]] + column_pull[span][block.right[1]]
            if smoothing:
                spread = smoothing * ((by_row / rows.keeps)[:, None] + (by_column / columns.keeps)[span])
                slope -= spread if block.hidden is None else spread.masked_fill_(block.hidden, 0)
            return slope

        with torch.autocast(images.device.type, enabled=False):
            found = pulled(context.pairing, images, texts, factor, slopes, context.needs_input_grad[1])
        to_images, to_texts, to_scale = found
        return (
            to_images.to(image_features.dtype),
            None if to_texts is None else to_texts.to(texts.dtype),
            to_scale.to(scale.dtype),
            None,
            None,
        )


def info_nce(
    image_features: Float[Tensor, "rows embed_dim"],
    text_features: Float[Tensor, "rows embed_dim"],
    scale: Float[Tensor, ""],
    *,
    label_smoothing: float = 0.0,
    image_ids: Int[Tensor, " rows"] | None = None,
    caption_ids: Int[Tensor, " rows"] | None = None,
    soft_targets: bool = False,
    columns: int | None = None,
) -> Contrast:
    """Return the symmetric cross-entropy over similarities (CLIP, arXiv:2103.00020, section 2.3).

    Args:
        image_features: Unit vectors of shape (rows, embed_dim), as many rows on every process.
        text_features: As `image_features`; row i belongs to picture i.
        scale: What similarities are multiplied with, a scalar.
        label_smoothing: Share of the target spread over all columns of the denominator.
        image_ids: Equal for equal pictures, shape (rows,): pairs that share one but do not belong together are
            false negatives, and are left out of the denominator.
        caption_ids: As `image_ids`, of captions.
        soft_targets: All pairs of equal pictures belong together, and share the target equally: pictures
            with several captions each, as in the retrieval fine-tuning of arXiv:2312.14238.
        columns: Texts in a block of the walk; decides memory alone, and is chosen when left out.

    Raises:
        ValueError: Processes hold unequal numbers of rows; soft targets without `image_ids`.
    """
    pairing = Pairing.of(image_features, image_ids, caption_ids, soft_targets, columns)
    with torch.autocast(image_features.device.type, enabled=False):
        losses, hardest, hidden = _InfoNCE.apply(image_features, text_features, scale, pairing, label_smoothing)
    found = meters(image_features, text_features, hardest, hidden)
    return Contrast(losses.mean(), losses.detach().mean(dim=0), found)
