"""One layer of the decoder: self-attention with rotary positions, the queries' look at a picture, a gated MLP."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.attention import attention
from models.config import TextConfig
from models.layers import Linear, RMSNorm
from models.packing import Packing
from models.rotary import Angles, Turn

_Kept = Float[Tensor, "batch key_heads _ head_dim"]
KeysValues = tuple[_Kept, _Kept]
"""A layer's keys and values of all tokens so far."""
_Shown = Float[Tensor, "pictures heads vision_tokens head_dim"]
Shown = tuple[_Shown, _Shown]
"""A layer's keys and values of pictures."""


def _rotate(
    hidden: Float[Tensor, "batch heads tokens head_dim"], cos: Angles, sin: Angles
) -> Float[Tensor, "batch heads tokens head_dim"]:
    first, second = hidden.chunk(2, dim=-1)
    return hidden * cos.to(hidden.dtype) + torch.cat([-second, first], dim=-1) * sin.to(hidden.dtype)


class LlamaAttention(nn.Module):
    """Self-attention with rotary positions, grouped keys and a cache."""

    def __init__(self, config: TextConfig) -> None:
        """Allocate; LLaMA has no biases."""
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        if width % heads:
            raise ValueError(f"hidden_size {width} does not divide into {heads} heads")
        self.head_dim, self.heads = width // heads, heads
        self.key_heads = config.num_key_value_heads or heads
        self.window = config.sliding_window
        self.q_proj = Linear(width, width, bias=config.qkv_bias)
        self.k_proj = Linear(width, self.key_heads * self.head_dim, bias=config.qkv_bias)
        self.v_proj = Linear(width, self.key_heads * self.head_dim, bias=config.qkv_bias)
        self.o_proj = Linear(width, width, bias=False)

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens width"],
        turn: Turn,
        mask: Bool[Tensor, "#batch 1 #tokens seen"] | None,
        past: KeysValues | None,
        packing: Packing | None = None,
    ) -> tuple[Float[Tensor, "batch tokens width"], KeysValues]:
        """Return (batch, tokens, width) and the keys and values so far."""
        batch, tokens, _ = hidden.shape
        query = self.q_proj(hidden).view(batch, tokens, self.heads, -1).transpose(1, 2)
        key = self.k_proj(hidden).view(batch, tokens, self.key_heads, -1).transpose(1, 2)
        value = self.v_proj(hidden).view(batch, tokens, self.key_heads, -1).transpose(1, 2)
        query, key = _rotate(query, *turn), _rotate(key, *turn)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        causal = mask is None and tokens > 1 and past is None
        window = self.window if causal else None  # a mask holds the window itself
        mixed = attention(query, key, value, mask=mask, causal=causal, packing=packing, window=window)
        return torch.as_tensor(self.o_proj(mixed.transpose(1, 2).flatten(2))), (key, value)


class LlamaMLP(nn.Module):
    """A gated layer."""

    def __init__(self, config: TextConfig) -> None:
        """Allocate without biases."""
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width)."""
        return torch.as_tensor(self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden)))


class QueryCrossAttention(nn.Module):
    """Queries look at the picture: no positions, no mask, no bias."""

    def __init__(self, config: TextConfig, vision_width: int) -> None:
        """Allocate; the picture has a width of its own."""
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.norm1 = RMSNorm(width, config.rms_norm_eps)
        self.norm2 = RMSNorm(vision_width, config.rms_norm_eps)
        self.q_proj = Linear(width, width, bias=False)
        self.k_proj = Linear(vision_width, width, bias=False)
        self.v_proj = Linear(vision_width, width, bias=False)
        self.o_proj = Linear(width, width, bias=False)

    def look(self, vision: Float[Tensor, "pictures vision_tokens vision_width"]) -> Shown:
        """Return keys and values of pictures."""
        seen = self.norm2(vision)
        return self._split(self.k_proj(seen)), self._split(self.v_proj(seen))

    def forward(
        self, queries: Float[Tensor, "batch queries width"], seen: Shown
    ) -> Float[Tensor, "batch queries width"]:
        """Return queries with what they saw added, shape (batch, queries, width).

        Args:
            queries: Shape (batch, queries, width).
            seen: What `look` gave, of as many pictures as rows, or of fewer that the rows go through in turn.
        """
        times = len(queries) // len(seen[0])
        key, value = (each.repeat(times, 1, 1, 1) for each in seen) if times > 1 else seen
        mixed = attention(self._split(self.q_proj(self.norm1(queries))), key, value)
        return torch.as_tensor(queries + self.o_proj(mixed.transpose(1, 2).flatten(2)))

    def _split(self, hidden: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows heads tokens head_dim"]:
        return hidden.view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)


class LlamaDecoderLayer(nn.Module):
    """Self-attention, then the queries' look at the picture where there is one, then the gated layer."""

    def __init__(self, config: TextConfig, vision_width: int | None) -> None:
        """Allocate; `vision_width` None means without cross-attention."""
        super().__init__()
        self.self_attn, self.mlp = LlamaAttention(config), LlamaMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.cross_attn = QueryCrossAttention(config, vision_width) if vision_width is not None else None

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens width"],
        turn: Turn,
        mask: Bool[Tensor, "#batch 1 #tokens seen"] | None,
        past: KeysValues | None,
        vision: Float[Tensor, "pictures vision_tokens vision_width"] | None,
        queries: int,
        packing: Packing | None = None,
        seen: Shown | None = None,
    ) -> tuple[Float[Tensor, "batch tokens width"], KeysValues, Shown | None]:
        """Return (batch, tokens, width), the layer's cache, and keys and values of the pictures where any is seen.

        Those of an earlier pass over the same pictures may be handed in as `seen`: they are projected once.
        """
        mixed, kept = self.self_attn(self.input_layernorm(hidden), turn, mask, past, packing)
        hidden = hidden + mixed
        if self.cross_attn is not None and vision is not None and queries:
            seen = seen or self.cross_attn.look(vision)
            hidden = torch.cat([self.cross_attn(hidden[:, :queries], seen), hidden[:, queries:]], dim=1)
        return hidden + self.mlp(self.post_attention_layernorm(hidden)), kept, seen
