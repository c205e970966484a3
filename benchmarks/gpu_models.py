"""What the GPU benchmark trains: towers of the true widths, cut in depth, so that each matrix product is a real one.

6B and 7B do not fit onto one card in training. A layer's speed depends on its width and its tokens, not on how
many more follow, so what these reach carries over to the whole models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.masks import drawn_patches
from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.cost import decoder_macs, vision_macs
from models.internvl import InternVL
from models.objective import Objective, totals_of
from models.vision_embeddings import kept_patches


@dataclass(frozen=True)
class Shape:
    """Sizes of both towers, and of a step."""

    vision_layers: int = 12
    text_layers: int = 6
    vision_width: int = 3200
    text_width: int = 4096
    image_size: int = 196
    text_tokens: int = 25
    """What a web caption has on average."""
    queries: int = 96
    vocab_size: int = 32_000
    head_width: int = 128
    global_batch_size: int = 512
    micro_batch_size: int = 64

    def smaller(self) -> "Shape":
        """Return the next shape to try when memory runs out: first a smaller micro batch, then fewer layers."""
        if self.micro_batch_size > 8:
            return replace(self, micro_batch_size=self.micro_batch_size // 2)
        return replace(
            self, vision_layers=max(1, self.vision_layers * 2 // 3), text_layers=max(1, self.text_layers * 2 // 3)
        )

    def config(self, image_size: int | None = None) -> InternVLConfig:
        """Return the configuration of both towers."""
        return InternVLConfig(
            vision=VisionConfig(
                image_size=image_size or self.image_size,
                patch_size=14,
                hidden_size=self.vision_width,
                num_hidden_layers=self.vision_layers,
                num_attention_heads=self.vision_width // self.head_width,
                intermediate_size=self.vision_width * 4,
            ),
            text=TextConfig(
                vocab_size=self.vocab_size,
                hidden_size=self.text_width,
                num_hidden_layers=self.text_layers,
                num_attention_heads=self.text_width // self.head_width,
                intermediate_size=self.text_width * 43 // 16,
            ),
            embed_dim=768,
            attn_pool_num_heads=self.vision_width // self.head_width,
            num_query_token=self.queries,
        )

    def batch(self, device: torch.device, kept: int | None = None) -> dict[str, Tensor]:
        """Return one micro batch of drawn pictures and captions."""
        rows, side = self.micro_batch_size, self.image_size
        ids = torch.randint(3, self.vocab_size, (rows, self.text_tokens), device=device)
        batch = {
            "pixel_values": torch.randn(rows, 3, side, side, device=device),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        if kept:
            keep = drawn_patches(rows, side // 14, kept, device)
            batch |= {"pixel_values": kept_patches(batch["pixel_values"], keep, 14), "keep_patches": keep}
        return batch


class QueryObjective(nn.Module):
    """The work of the generative stage on given pairs: frozen towers, queries asked once, a match and a caption."""

    def __init__(self, model: InternVL) -> None:
        """Freeze what the stage freezes: the vision tower and the language model."""
        super().__init__()
        self.model = model
        model.vision_model.requires_grad_(False)
        for name, parameter in model.qllama.named_parameters():
            parameter.requires_grad_("cross" in name)
        for part in (model.clip_projector, model.text_projection, model.logit_scale):
            part.requires_grad_(False)

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Count rows."""
        return {"rows": torch.tensor(float(batch["input_ids"].shape[0]), device=batch["input_ids"].device)}

    def forward(self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return a loss that reaches all of what is trained; its value means nothing."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            vision = self.model.see(batch["pixel_values"])
        hidden, cache = self.model.ask(vision)
        terms = self.model.pool_queries(hidden)[:, 0].square() + self.model.match(vision, ids, mask)[:, 1].square()
        terms = terms + self.model.describe(cache, ids, mask).float().logsumexp(dim=-1).mean(dim=1)
        return {"loss": terms.sum() / (totals or totals_of(self, [batch]))["rows"]}


def contrastive(shape: Shape) -> tuple[Objective, float]:
    """Return stage 1's objective, and the useful FLOP of a pair's step: forward once, backward twice."""
    config, kept = shape.config(), patches_kept(shape)
    objective = ContrastiveObjective(InternVL(config, generative=False))
    objective.model.qllama.lm_head.requires_grad_(False)
    pair = vision_macs(config.vision, kept=kept) + decoder_macs(config.text, shape.text_tokens)
    return objective, 3 * 2 * pair


def generative(shape: Shape) -> tuple[Objective, float]:
    """Return stage 2's work, and the FLOP of a pair's step: the frozen vision tower forward only.

    Frozen weights of the decoder get no gradient, but what they compute passes one on: two thirds of a step.
    """
    config = shape.config()
    both = decoder_macs(config.text, shape.queries + shape.text_tokens)
    text = decoder_macs(config.text, shape.text_tokens, past=shape.queries, head=True)
    decoder = decoder_macs(config.text, shape.queries) + both + text
    return QueryObjective(InternVL(config)), 2 * (vision_macs(config.vision) + 2 * decoder)


def patches_kept(shape: Shape) -> int:
    """Return how many patches are seen with half of them masked."""
    return (shape.image_size // 14) ** 2 // 2


STAGES: dict[str, tuple[Callable[[Shape], tuple[Objective, float]], bool]] = {
    "S1-true": (contrastive, True),
    "S2-true": (generative, False),
}
"""Objective, and whether half of the patches are masked."""
