"""What the GPU benchmark trains: towers of the true widths, cut in depth, so that each matrix product is a real one.

6B and 7B do not fit onto one card in training. A layer's speed depends on its width and its tokens, not on how
many more follow, so what these reach carries over to the whole models.
"""

from typing import NamedTuple

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.step_shape import Shape


def towers(
    vision_layers: int = 12,
    text_layers: int = 6,
    vision: int = 3200,
    text: int = 4096,
    side: int = 196,
    head: int = 128,
) -> InternVLConfig:
    """Return both towers: InternViT-6B and LLaMA-7B, with fewer layers."""
    return InternVLConfig(
        vision=VisionConfig(
            image_size=side,
            patch_size=14,
            hidden_size=vision,
            num_hidden_layers=vision_layers,
            num_attention_heads=vision // head,
            intermediate_size=vision * 4,
        ),
        text=TextConfig(
            vocab_size=32_000 if text > 512 else 64,
            hidden_size=text,
            num_hidden_layers=text_layers,
            num_attention_heads=text // head,
            intermediate_size=text * 43 // 16,
        ),
        embed_dim=768,
        attn_pool_num_heads=vision // head if vision % 16 else 16,
        num_query_token=96 if text > 512 else 3,
    )


def chat(
    vision_layers: int = 24, text_layers: int = 24, vision: int = 1024, text: int = 2048, side: int = 448
) -> ChatConfig:
    """Return InternVL2-2B."""
    vocabulary = 92_553 if text > 512 else 64
    return ChatConfig(
        vision=VisionConfig(
            image_size=side,
            patch_size=14,
            hidden_size=vision,
            num_hidden_layers=vision_layers,
            num_attention_heads=max(1, vision // 64),
            intermediate_size=vision * 4,
            qkv_bias=True,
            qk_normalization=False,
            norm_type="layer_norm",
        ),
        text=TextConfig(
            vocab_size=vocabulary,
            hidden_size=text,
            num_hidden_layers=text_layers,
            num_attention_heads=max(1, text // 128),
            num_key_value_heads=max(1, text // 256),
            intermediate_size=text * 4,
        ),
        image_context_token_id=vocabulary - 1,
        eos_token_id=2,
        context_length=16_384,
        template="internlm2-chat",
    )


class Stage(NamedTuple):
    """A benchmark: its work at its size and at a tiny one, how much of it is a step, and ways to run it."""

    shape: Shape
    tiny: Shape
    rows: int
    """Of a micro batch."""
    pieces: int
    """Micro batches of a step."""
    ways: tuple[str, ...] = ("recomputed", "kept", "kept, compiled")

    def samples(self, shape: Shape, rows: int) -> int:
        """Return the samples of a micro batch: packs hold as many conversations as they have room for."""
        return rows * shape.tokens // shape.length if shape.packed else rows


TINY = towers(1, 1, 32, 32, 28, 16)
STAGES = {
    # Half of the patches masked, texts of 25 tokens: what a web caption has on average.
    "S1-true": Stage(
        Shape("contrastive", towers=towers(), tokens=25, kept=98),
        Shape("contrastive", towers=TINY, tokens=5, kept=2),
        rows=64,
        pieces=8,
    ),
    "S2-true": Stage(
        Shape("generative", towers=towers(), tokens=25), Shape("generative", towers=TINY, tokens=5), rows=64, pieces=4
    ),
    # Packs of InternVL 2.5's scripts: 16384 tokens and 48 tiles, here of 16 conversations each.
    "S3-2B": Stage(
        Shape("instruct", chat=chat(), tokens=16_384, tiles=48, length=1024, packed=True),
        Shape("instruct", chat=chat(1, 1, 32, 32, 28), tokens=32, tiles=2, length=16, packed=True),
        rows=1,
        pieces=2,
        ways=("recomputed", "recomputed, compiled"),
    ),
}
