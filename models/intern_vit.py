"""InternViT: the vision encoder (arXiv:2312.14238, section 3.2), numerically the official one."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import attention
from models.config import VisionConfig
from models.layers import Linear, RMSNorm, linear


def make_norm(config: VisionConfig) -> nn.Module:
    """Return the norm of a configuration."""
    if config.norm_type == "rms_norm":
        return RMSNorm(config.hidden_size, config.layer_norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def drop_path(
    hidden: Float[Tensor, "batch tokens width"], rate: float, training: bool
) -> Float[Tensor, "batch tokens width"]:
    """Drop whole samples of a residual branch and scale up the others, shape (batch, tokens, width)."""
    if rate == 0.0 or not training:
        return hidden
    kept = hidden.new_empty(hidden.shape[0], 1, 1).bernoulli_(1 - rate)
    return hidden * kept / (1 - rate)


class InternVisionEmbeddings(nn.Module):
    """Patches, a class token and learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate for `config.image_size`."""
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.class_embedding = nn.Parameter(torch.randn(1, 1, config.hidden_size) * 0.02)
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Parameter(torch.randn(1, config.grid**2 + 1, config.hidden_size) * 0.02)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 1+{rows}*{columns} width"]:
        """Return positions for a grid of patches, interpolated where it is not the trained one."""
        grid = self.image_size // self.config.patch_size
        if (rows, columns) == (grid, grid):
            return self.position_embedding
        first, rest = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        square = rest.float().reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=(rows, columns), mode="bicubic", align_corners=False)
        flat = resized.reshape(1, -1, rows * columns).permute(0, 2, 1).to(rest.dtype)
        return torch.cat([first, flat], dim=1)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        keep_patches: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden_size"]:
        """Return (batch, tokens, width); only `keep_patches` are projected where given."""
        batch, channels, height, width = pixel_values.shape
        size = self.config.patch_size
        if height % size or width % size:
            raise ValueError(f"pictures of {height} x {width} pixels do not divide into patches of {size}")
        rows, columns = height // size, width // size
        positions = self.positions(rows, columns)
        # A convolution with stride equal to its kernel is one matrix product over patches; as such it can
        # leave out masked patches before any work is spent on them (FLIP, arXiv:2212.00794).
        patches = pixel_values.reshape(batch, channels, rows, size, columns, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * size * size)
        places = positions[:, 1:].expand(batch, -1, -1)
        if keep_patches is not None:
            index = keep_patches[..., None]
            patches = patches.gather(1, index.expand(-1, -1, patches.shape[-1]))
            places = places.gather(1, index.expand(-1, -1, places.shape[-1]))
        tokens = linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias) + places
        first = (self.class_embedding + positions[:, :1]).expand(batch, -1, -1)
        return torch.cat([first.to(tokens.dtype), tokens], dim=1)


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

    def __init__(self, config: VisionConfig, drop_path_rate: float) -> None:
        """Allocate a block with its own drop rate."""
        super().__init__()
        self.attn, self.mlp = InternAttention(config), InternMLP(config)
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.ls1 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))
        self.ls2 = nn.Parameter(config.initializer_factor * torch.ones(config.hidden_size))
        self.drop_path_rate = drop_path_rate

    def forward(self, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return (batch, tokens, width)."""
        rate = self.drop_path_rate
        hidden = hidden + drop_path(self.attn(self.norm1(hidden)) * self.ls1, rate, self.training)
        return hidden + drop_path(self.mlp(self.norm2(hidden)) * self.ls2, rate, self.training)


class InternVisionEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate blocks; drop rates rise linearly or are equal, as the configuration says."""
        super().__init__()
        depth, rate = config.num_hidden_layers, config.drop_path_rate
        linear = [rate * number / max(1, depth - 1) for number in range(depth)]
        rates = linear if config.drop_path_schedule == "linear" else [rate] * depth
        self.layers = nn.ModuleList(InternVisionEncoderLayer(config, each) for each in rates)


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
        """Allocate and initialise by BEiT's scheme (arXiv:2106.08254)."""
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
        pixel_values: Float[Tensor, "batch channels height width"],
        keep_patches: Int[Tensor, "batch kept"] | None = None,
    ) -> VisionOutput:
        """Encode pictures.

        Args:
            pixel_values: Shape (batch, channels, height, width), normalised.
            keep_patches: Indices of the patches that are seen, shape (batch, kept); all when left out.

        Returns:
            Hidden states of shape (batch, 1 + patches, width), the class token first.
        """
        hidden = self.embeddings(pixel_values, keep_patches)
        states = [hidden]
        for layer in self.encoder.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = torch.as_tensor(checkpoint(layer, hidden, use_reentrant=False))
            else:
                hidden = layer(hidden)
            states.append(hidden)
        return VisionOutput(last_hidden_state=hidden, hidden_states=tuple(states))


def parameter_count(config: VisionConfig) -> int:
    """Return the number of parameters, counted on the meta device: no memory is taken."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in InternVisionModel(config).parameters())
