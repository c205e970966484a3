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
from models.stochastic_depth import drop_path
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

    def __init__(self, config: VisionConfig, number: int, drop_path_rate: float) -> None:
        """Allocate block `number`, counted from 0, with its own drop rate."""
        super().__init__()
        self.attn, self.mlp = InternAttention(config), InternMLP(config)
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.ls1 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))
        self.ls2 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))
        self.number, self.drop_path_rate = number, drop_path_rate

    def forward(
        self, hidden: Float[Tensor, "batch tokens width"], noise: Int64[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width); `noise` decides which rows skip a branch in training."""
        rate = self.drop_path_rate if self.training else 0.0
        hidden = hidden + drop_path(self.attn(self.norm1(hidden)) * self.ls1, rate, noise, 2 * self.number)
        return hidden + drop_path(self.mlp(self.norm2(hidden)) * self.ls2, rate, noise, 2 * self.number + 1)


class InternVisionEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate blocks; drop rates rise linearly or are equal, as the configuration says."""
        super().__init__()
        depth, rate = config.num_hidden_layers, config.drop_path_rate
        linear = [rate * number / max(1, depth - 1) for number in range(depth)]
        rates = linear if config.drop_path_schedule == "linear" else [rate] * depth
        self.layers = nn.ModuleList(InternVisionEncoderLayer(config, *each) for each in enumerate(rates))


@dataclass(frozen=True)
class VisionOutput:
    """What the encoder gives: no final norm is applied, as in the official model."""

    last_hidden_state: Float[Tensor, "batch tokens width"]
    hidden_states: tuple[Float[Tensor, "batch tokens width"], ...]

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
    ) -> VisionOutput:
        """Encode pictures.

        Args:
            pixel_values: Shape (batch, channels, height, width), normalised; the kept patches of masked pictures,
                shape (batch, kept, channels * patch_size^2), see `models.vision_embeddings.kept_patches`.
            keep_patches: Which patches of masked pictures these are, shape (batch, rows, columns).
            noise: A random number per picture, for stochastic depth in training.

        Returns:
            Hidden states of shape (batch, 1 + patches, width), the class token first.

        Raises:
            ValueError: Pictures do not divide into patches, or there is no noise where blocks are dropped.
        """
        hidden = self.embeddings(pixel_values, keep_patches)
        states = [hidden]
        for layer in self.encoder.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = torch.as_tensor(checkpoint(layer, hidden, noise, use_reentrant=False))
            else:
                hidden = layer(hidden, noise)
            states.append(hidden)
        return VisionOutput(last_hidden_state=hidden, hidden_states=tuple(states))


def parameter_count(config: VisionConfig) -> int:
    """Return the number of parameters, counted on the meta device: no memory is taken."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in InternVisionModel(config).parameters())
