"""Attention pooling: the head that turns tokens into one vector of the shared space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.attention import attention
from models.layers import Linear, linear


class _CrossAttention(nn.Module):
    """One query over all tokens; biases are separate parameters, as in the official weights."""

    def __init__(self, hidden_size: int, num_heads: int, embed_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        for name in ("q", "k", "v"):
            setattr(self, name, Linear(hidden_size, hidden_size, bias=False))
            setattr(self, f"{name}_bias", nn.Parameter(torch.zeros(hidden_size)))
        self.proj = Linear(hidden_size, embed_dim)

    def _split(
        self, name: str, hidden: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        projected = linear(hidden, getattr(self, name).weight, getattr(self, f"{name}_bias"))
        return projected.view(*hidden.shape[:2], self.num_heads, -1).transpose(1, 2)

    def forward(
        self,
        query: Float[Tensor, "batch queries width"],
        key: Float[Tensor, "batch tokens width"],
        value: Float[Tensor, "batch tokens width"],
    ) -> Float[Tensor, "batch queries embed_dim"]:
        mixed = attention(self._split("q", query), self._split("k", key), self._split("v", value))
        return torch.as_tensor(self.proj(mixed.transpose(1, 2).flatten(2)))


class AttentionPooling(nn.Module):
    """Pool tokens by the attention of their own mean; no residual, no second layer."""

    def __init__(self, hidden_size: int, num_heads: int, embed_dim: int) -> None:
        """Allocate under the official names."""
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"width {hidden_size} does not divide into {num_heads} pooling heads")
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(hidden_size) for _ in range(3))
        self.cross_attn = _CrossAttention(hidden_size, num_heads, embed_dim)

    def forward(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch embed_dim"]:
        """Return one vector for all tokens of each sample."""
        mean = tokens.mean(dim=1, keepdim=True)
        pooled = self.cross_attn(self.norm1_q(mean), self.norm1_k(tokens), self.norm1_v(tokens))
        return torch.as_tensor(pooled.squeeze(1))
