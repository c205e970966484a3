"""InternViT: the vision encoder (arXiv:2312.14238, section 3.2), numerically the official one."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import attention
from models.config import VisionConfig
from models.layers import Linear, RMSNorm
from models.stochastic_depth import kept
from models.vision_embeddings import InternVisionEmbeddings


def make_norm(config: VisionConfig) -> nn.Module:
    """Return the norm of a configuration."""
    if config.norm_type == "rms_norm":
        return RMSNorm(config.hidden_size, config.layer_norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class InternAttention(nn.Module):
    """Self-attention whose queries and keys are normalised over the whole width."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate the fused projection."""
        super().__init__()
        width = config.hidden_size
        if width % config.num_attention_heads:
            raise ValueError(f"hidden_size {width} does not divide into {config.num_attention_heads} heads")
        self.num_heads = config.num_attention_heads
        self.qkv = Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = Linear(width, width)
        self.qk_normalization = config.qk_normalization
        if config.qk_normalization:
            self.q_norm = RMSNorm(width, config.layer_norm_eps)
            self.k_norm = RMSNorm(width, config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width)."""
        batch, tokens, width = hidden.shape
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        if self.qk_normalization:
            query, key = self.q_norm(query), self.k_norm(key)
        heads = (each.view(batch, tokens, self.num_heads, -1).transpose(1, 2) for each in (query, key, value))
        mixed: Tensor = attention(*heads).transpose(1, 2).reshape(batch, tokens, width)
        return torch.as_tensor(self.proj(mixed))


class InternMLP(nn.Module):
    """Two layers around an exact GELU."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate both layers."""
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width)."""
        return torch.as_tensor(self.fc2(F.gelu(self.fc1(hidden))))


class InternVisionEncoderLayer(nn.Module):
    """One pre-norm block with layer scale."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate both branches."""
        super().__init__()
        self.attn, self.mlp = InternAttention(config), InternMLP(config)
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.ls1 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))
        self.ls2 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))

    def forward(
        self, hidden: Float[Tensor, "batch tokens width"], shares: Float[Tensor, "branches batch"] | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width); `shares` scales each row's two branches (see `InternVisionEncoder.shares`).

        What differs between blocks is weights and tensors, no number: a compiled block serves for all.
        """
        first, second = (None, None) if shares is None else shares[:, :, None, None]
        mixed = self.attn(self.norm1(hidden)) * self.ls1
        hidden = hidden + (mixed if first is None else mixed * first)
        mixed = self.mlp(self.norm2(hidden)) * self.ls2
        return torch.as_tensor(hidden + (mixed if second is None else mixed * second))


class InternVisionEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate blocks; drop rates rise linearly or are equal, as the configuration says."""
        super().__init__()
        depth, rate = config.num_hidden_layers, config.drop_path_rate
        linear = [rate * number / max(1, depth - 1) for number in range(depth)]
        self.drop_path_rates = linear if config.drop_path_schedule == "linear" else [rate] * depth
        self.layers = nn.ModuleList(InternVisionEncoderLayer(config) for _ in range(depth))

    def shares(self, number: int, noise: Int64[Tensor, " batch"] | None) -> Float[Tensor, "branches batch"] | None:
        """Return how much of each row's branches block `number` takes, shape (2, batch); None: all of them.

        Raises:
            ValueError: Blocks are dropped and there is no noise.
        """
        rate = self.drop_path_rates[number] if self.training else 0.0
        return torch.stack([kept(rate, noise, 2 * number + branch) for branch in range(2)]) if rate else None


@dataclass(frozen=True)
class VisionOutput:
    """What the encoder gives: no final norm is applied, as in the official model."""

    last_hidden_state: Float[Tensor, "batch tokens width"]
    hidden_states: tuple[Float[Tensor, "batch tokens width"], ...]
    """From what goes into the first block to what the last gives; or the one that was asked for."""

    @property
    def pooler_output(self) -> Float[Tensor, "batch width"]:
        """The class token of the last block, shape (batch, width)."""
        return self.last_hidden_state[:, 0]


class InternVisionModel(nn.Module):
    """The encoder with the official weight names.

    Pictures of another size than the trained one are seen through interpolated positions. With
    `gradient_checkpointing` a block's inside is computed again for the backward pass instead of kept.
    """

    def __init__(self, config: VisionConfig) -> None:
        """Allocate and initialise by BEiT's scheme (arXiv:2106.08254, appendix), drawn from torch's random state.

        Weights are normal with a deviation of 0.02, biases zero, and the projections that end the branches of
        block i, counted from 1, are divided by sqrt(2 i). BEiT's published code cuts the normal in two ways, at
        +-2 and at +-0.02; the InternVL paper does not say which, and this is the former, which cuts next to nothing.
        """
        super().__init__()
        self.config = config
        self.embeddings = InternVisionEmbeddings(config)
        self.encoder = InternVisionEncoder(config)
        self.gradient_checkpointing = False
        self.apply(self._initialise)
        for number, layer in enumerate(self.encoder.layers, start=1):
            assert isinstance(layer, InternVisionEncoderLayer)
            with torch.no_grad():
                layer.attn.proj.weight.div_(math.sqrt(2 * number))
                layer.mlp.fc2.weight.div_(math.sqrt(2 * number))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def resize_position_embedding(self, image_size: int) -> None:
        """Make another picture size the trained one, interpolating the positions once."""
        side = image_size // self.config.patch_size
        with torch.no_grad():
            self.embeddings.position_embedding = nn.Parameter(self.embeddings.positions(side, side).clone())
        self.embeddings.image_size = image_size
        self.config = self.config.model_copy(update={"image_size": image_size})

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch kept values"],
        keep_patches: Bool[Tensor, "batch rows columns"] | None = None,
        noise: Int64[Tensor, " batch"] | None = None,
        only: int | None = None,
    ) -> VisionOutput:
        """Encode pictures.

        Args:
            pixel_values: Shape (batch, channels, height, width), normalised; the kept patches of masked pictures,
                shape (batch, kept, channels * patch_size^2), see `models.vision_embeddings.kept_patches`.
            keep_patches: Which patches of masked pictures these are, shape (batch, rows, columns).
            noise: A random number per picture, for stochastic depth in training.
            only: Keep this one of the hidden states, counted as in a list; all when left out. Of a large encoder they
                are most of what a pass without gradients holds.

        Returns:
            Hidden states of shape (batch, 1 + patches, width), the class token first.

        Raises:
            ValueError: Pictures do not divide into patches, or there is no noise where blocks are dropped.
        """
        hidden = self.embeddings(pixel_values, keep_patches)
        wanted = range(len(self.encoder.layers) + 1)
        wanted = wanted if only is None else wanted[only:][:1]
        states = [hidden] if 0 in wanted else []
        for number, layer in enumerate(self.encoder.layers):
            shares = self.encoder.shares(number, noise)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = torch.as_tensor(checkpoint(layer, hidden, shares, use_reentrant=False))
            else:
                hidden = layer(hidden, shares)
            if number + 1 in wanted:
                states.append(hidden)
        return VisionOutput(last_hidden_state=hidden, hidden_states=tuple(states))


def parameter_count(config: VisionConfig) -> int:
    """Return the number of parameters, counted on the meta device: no memory is taken."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in InternVisionModel(config).parameters())
