"""The objective of distilling an encoder: a small one's hidden states point where a large one's do.

InternViT-300M is distilled from InternViT-6B by the cosine between hidden states of the last layers, on pictures of
one size (Mini-InternVL, arXiv:2410.16261, section 3.1). How many layers, and how states of different widths meet, is
not published: a linear map for each layer is ours, and is no part of the result.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.intern_vit import InternVisionModel
from models.layers import Linear, wide
from models.losses import shared
from models.objective import SAMPLE_LOSS, Named


class DistillationObjective(nn.Module):
    """One minus the mean cosine over the tokens of the last layers, the class token among them.

    Over batches of `pixel_values` (rows, 3, side, side) and, where the student drops blocks, `noise` (rows,).
    """

    def __init__(self, teacher: InternVisionModel, student: InternVisionModel, layers: int) -> None:
        """Freeze the teacher; compare the outputs of the last `layers` blocks, last with last.

        Raises:
            ValueError: One has fewer blocks, or they cut pictures into different patches.
        """
        super().__init__()
        fewest = min(teacher.config.num_hidden_layers, student.config.num_hidden_layers)
        if layers > fewest:
            raise ValueError(f"{layers} last blocks are to be compared and one of the encoders has {fewest}")
        if teacher.config.patch_size != student.config.patch_size:
            raise ValueError(
                f"the teacher's patches have {teacher.config.patch_size} pixels a side and the student's "
                f"{student.config.patch_size}; they must see the same places"
            )
        self.teacher, self.student, self.layers = teacher.requires_grad_(False), student, layers
        widths = student.config.hidden_size, teacher.config.hidden_size
        self.maps = nn.ModuleList(Linear(*widths) for _ in range(layers))

    def counts(self, batch: Named) -> dict[str, Tensor]:
        """Return over how many pictures the loss is a mean."""
        rows = torch.tensor(float(len(batch["pixel_values"])), device=batch["pixel_values"].device)
        return {"loss": rows, "cosine": rows}

    def forward(self, batch: Named, totals: Named | None = None) -> dict[str, Tensor]:
        """Return the loss, the cosine itself, and each picture's loss."""
        with torch.no_grad():
            wanted = self.teacher(batch["pixel_values"]).hidden_states[-self.layers :]
        seen = self.student(batch["pixel_values"], noise=batch.get("noise")).hidden_states[-self.layers :]
        cosine = torch.stack(
            [_cosine(fit(mine), theirs) for fit, mine, theirs in zip(self.maps, seen, wanted, strict=True)]
        ).mean(dim=0)
        rows, given = torch.tensor(float(len(cosine)), device=cosine.device), totals or {}
        return {
            "loss": shared((1 - cosine).sum(), rows, given.get("loss")),
            "cosine": shared(cosine.detach().sum(), rows, given.get("cosine")),
            SAMPLE_LOSS: (1 - cosine).detach(),
        }


def _cosine(
    mine: Float[Tensor, "rows tokens width"], theirs: Float[Tensor, "rows tokens width"]
) -> Float[Tensor, " rows"]:
    """Return the mean cosine over a picture's tokens."""
    return F.cosine_similarity(wide(mine), wide(theirs), dim=-1).mean(dim=1)
