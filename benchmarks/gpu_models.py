"""What the GPU benchmark trains: towers of the true widths, cut in depth, so that each matrix product is a real one.

6B and 7B do not fit onto one card in training. A layer's speed depends on its width and its tokens, not on how
many more follow, so what these reach carries over to the whole models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.cost import decoder_macs, vision_macs
from models.drawn_masks import drawn_patches
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
    pooling_heads: int = 16

    def smaller(self) -> "Shape | None":
        """Return the next shape to try when memory runs out: first a smaller micro batch, then fewer layers."""
        if self.micro_batch_size > 8:
            return replace(self, micro_batch_size=self.micro_batch_size // 2)
        if self.vision_layers == 1:
            return None
        return replace(
            self, vision_layers=max(1, self.vision_layers * 2 // 3), text_layers=max(1, self.text_layers * 2 // 3)
        )

    @property
    def pieces(self) -> int:
        """Micro batches of a step."""
        return max(1, self.global_batch_size // self.micro_batch_size)

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
            attn_pool_num_heads=self.pooling_heads,
            num_query_token=self.queries,
        )

    def batch(self, kept: int | None = None) -> dict[str, Tensor]:
        """Return one micro batch of drawn pictures and captions, on torch's default device."""
        rows, side = self.micro_batch_size, self.image_size
        ids = torch.randint(3, self.vocab_size, (rows, self.text_tokens))
        batch = {
            "pixel_values": torch.randn(rows, 3, side, side),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        if kept:
            keep = drawn_patches(rows, side // 14, kept, ids.device)
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


class Work(NamedTuple):
    """What a benchmark trains."""

    objective: Objective
    micro_batches: list[dict[str, Tensor]]
    flop: float
    """Useful FLOP of a step: nothing that is computed again, nothing of padding."""
    samples: int


def contrastive(shape: Shape) -> Work:
    """Return stage 1 with half of the patches masked: forward once, backward twice."""
    config, kept = shape.config(), (shape.image_size // 14) ** 2 // 2
    objective = ContrastiveObjective(InternVL(config, generative=False))
    objective.model.qllama.lm_head.requires_grad_(False)
    pair = vision_macs(config.vision, kept=kept) + decoder_macs(config.text, shape.text_tokens)
    pairs = shape.pieces * shape.micro_batch_size
    return Work(objective, [shape.batch(kept) for _ in range(shape.pieces)], 3 * 2 * pair * pairs, pairs)


def generative(shape: Shape) -> Work:
    """Return stage 2: the frozen vision tower forward only.

    Frozen weights of the decoder get no gradient, but what they compute passes one on: two thirds of a step.
    """
    config = shape.config()
    both = decoder_macs(config.text, shape.queries + shape.text_tokens)
    text = decoder_macs(config.text, shape.text_tokens, past=shape.queries, head=True)
    decoder = decoder_macs(config.text, shape.queries) + both + text
    pair = 2 * (vision_macs(config.vision) + 2 * decoder)
    pairs = shape.pieces * shape.micro_batch_size
    objective = QueryObjective(InternVL(config))
    return Work(objective, [shape.batch() for _ in range(shape.pieces)], pair * pairs, pairs)


@dataclass(frozen=True)
class ChatShape:
    """InternVL2-2B, and packs of conversations of InternVL 2.5's scripts: 16384 tokens, 48 tiles."""

    vision_layers: int = 24
    text_layers: int = 24
    vision_width: int = 1024
    text_width: int = 2048
    image_size: int = 448
    vocab_size: int = 92_553
    conversations: int = 16
    tiles: int = 3
    """Of each conversation."""
    text_tokens: int = 256
    learned: int = 64
    """Of a conversation's text."""
    packs: int = 2
    """Of a step; each is a micro batch."""

    def smaller(self) -> "ChatShape | None":
        """Return the next shape to try when memory runs out: fewer conversations in a pack."""
        return replace(self, conversations=self.conversations // 2) if self.conversations > 1 else None

    def config(self) -> ChatConfig:
        """Return the configuration of the model."""
        return ChatConfig(
            vision=VisionConfig(
                image_size=self.image_size,
                patch_size=14,
                hidden_size=self.vision_width,
                num_hidden_layers=self.vision_layers,
                num_attention_heads=max(1, self.vision_width // 64),
                intermediate_size=self.vision_width * 4,
                qkv_bias=True,
                qk_normalization=False,
                norm_type="layer_norm",
            ),
            text=TextConfig(
                vocab_size=self.vocab_size,
                hidden_size=self.text_width,
                num_hidden_layers=self.text_layers,
                num_attention_heads=max(1, self.text_width // 128),
                num_key_value_heads=max(1, self.text_width // 256),
                intermediate_size=self.text_width * 4,
            ),
            image_context_token_id=self.vocab_size - 1,
            eos_token_id=2,
            context_length=16_384,
            template="internlm2-chat",
        )

    def batch(self, seen: int) -> dict[str, Tensor]:
        """Return one full pack: in each conversation `seen` places for each tile, then text whose end is learned."""
        one = torch.randint(3, self.vocab_size - 1, (self.conversations, self.tiles * seen + self.text_tokens))
        one[:, : self.tiles * seen] = self.vocab_size - 1
        labels = torch.full_like(one, IGNORE)
        labels[:, -self.learned :] = one[:, -self.learned :]
        owners = torch.arange(self.conversations)[:, None].expand_as(one)
        side = self.image_size
        return {
            "input_ids": one.view(1, -1),
            "labels": labels.view(1, -1),
            "sample_index": owners.reshape(1, -1),
            "pixel_values": torch.randn(self.conversations * self.tiles, 3, side, side),
        }


def chat(shape: ChatShape) -> Work:
    """Return stage 3 with everything trained."""
    config = shape.config()
    seen = (config.vision.grid // config.cell) ** 2
    length = shape.tiles * seen + shape.text_tokens
    width, text = config.text.hidden_size, decoder_macs(config.text, length)
    head = shape.learned * config.text.vocab_size * width
    connector = seen * (config.vision.hidden_size * config.cell**2 * width + width**2)
    one = shape.tiles * (vision_macs(config.vision) + connector) + text + head
    samples = shape.packs * shape.conversations
    return Work(InternVLChat(config), [shape.batch(seen) for _ in range(shape.packs)], 3 * 2 * one * samples, samples)


class Stage(NamedTuple):
    """A benchmark: how its work is made, at its size and at a tiny one, and ways to run it."""

    make: Callable[[Any], Work]
    shape: Any
    tiny: Any
    ways: tuple[str, ...] = ("recomputed", "kept", "kept, compiled")


TINY = Shape(1, 1, 32, 32, 28, 5, 3, 64, 16, 4, 2, pooling_heads=2)
TINY_CHAT = ChatShape(1, 1, 32, 32, 28, 64, 2, 1, 8, 4)
STAGES = {
    "S1-true": Stage(contrastive, Shape(), TINY),
    "S2-true": Stage(generative, Shape(global_batch_size=256), TINY),
    "S3-2B": Stage(chat, ChatShape(), TINY_CHAT, ("recomputed", "recomputed, compiled")),
}
