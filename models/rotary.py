"""Rotary positions: the angle of every position, plain or stretched, to the last bit as transformers has them.

A stretch may depend on how long the text is. It is that of the whole row, padding counted, as transformers takes
the largest position of a batch; of packed samples each goes by its own length, so that it gets the numbers
that it would get alone, whoever shares its row.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.config import TextConfig
from models.rope import DynamicRope, LinearRope, LongRope

Angles = Float[Tensor, "#batch 1 tokens head_dim"]
Turn = tuple[Angles, Angles]
"""Cosines and sines of all positions; one row serves every sample where all count from the same start."""


def attention_factor(config: TextConfig) -> float:
    """Return what cosines and sines are multiplied by, for short and for long texts alike."""
    scaling = config.rope_scaling
    if not isinstance(scaling, LongRope):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    original = scaling.original_max_position_embeddings
    factor = scaling.factor or config.max_position_embeddings / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def frequencies(config: TextConfig, lengths: Int[Tensor, "batch tokens"]) -> Float[Tensor, "... half"]:
    """Return the angle between neighbouring positions, in radians.

    Args:
        config: Shape of the decoder.
        lengths: How long the text is to which each token belongs; one number serves all.

    Returns:
        Shape (head_dim / 2,), or (batch, tokens, head_dim / 2) where it depends on the length.
    """
    head_dim, scaling, theta = config.head_dim, config.rope_scaling, config.rope_theta
    powers = torch.arange(0, head_dim, 2, device=lengths.device).float() / head_dim
    if isinstance(scaling, LongRope):
        short, long = (
            1.0 / (torch.tensor(factors, device=lengths.device) * theta**powers)
            for factors in (scaling.short_factor, scaling.long_factor)
        )
        return torch.where(lengths[..., None] > scaling.original_max_position_embeddings, long, short)
    plain = 1.0 / theta**powers
    if isinstance(scaling, LinearRope):
        return plain / scaling.factor
    if isinstance(scaling, DynamicRope):
        most = config.max_position_embeddings
        stretch = scaling.factor * lengths.clamp(min=most)[..., None] / most - (scaling.factor - 1)
        base = theta * stretch ** (head_dim / (head_dim - 2))
        return torch.where(lengths[..., None] > most, 1.0 / base**powers, plain)
    return plain


def rotary(
    config: TextConfig, positions: Int[Tensor, "batch tokens"], lengths: Int[Tensor, "#batch #tokens"]
) -> Turn:
    """Return cosines and sines of shape (batch, 1, tokens, head_dim), in the half-rotation convention.

    Args:
        config: Shape of the decoder.
        positions: Each token's place in its text.
        lengths: See `frequencies`.
    """
    angles = positions[..., None].float() * frequencies(config, lengths)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    factor = attention_factor(config)
    return angles.cos() * factor, angles.sin() * factor


def outgrows(config: TextConfig, seen: int, tokens: int) -> bool:
    """Say whether a text of `seen` cached tokens becomes another one by `tokens` more: all of it is to be read anew.

    With LongRoPE every number of a long text differs from those of a short one, the cached ones too. (Dynamic
    stretching turns cached keys by the base of their own time; transformers and the official code leave them.)
    """
    scaling = config.rope_scaling
    if not isinstance(scaling, LongRope):
        return False
    return 0 < seen <= scaling.original_max_position_embeddings < seen + tokens
