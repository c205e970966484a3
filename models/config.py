"""Shapes of the models, as data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.rope import DynamicRope, LongRope, RopeScaling

Connector = Literal["unshuffle_mlp", "mlp", "two_mlp"]


class VisionConfig(BaseModel):
    """Shape of an InternViT encoder (arXiv:2312.14238, section 3.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    norm_type: Literal["rms_norm", "layer_norm"] = "rms_norm"
    qk_normalization: bool = True
    qkv_bias: bool = False
    layer_norm_eps: float = 1e-6
    initializer_factor: float = Field(default=0.1, description="Initial value of the layer scales.")
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1)
    drop_path_schedule: Literal["linear", "uniform"] = "linear"
    num_channels: int = 3

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


INTERN_VIT_6B_224 = VisionConfig(
    image_size=224,
    patch_size=14,
    hidden_size=3200,
    num_hidden_layers=48,
    num_attention_heads=25,
    intermediate_size=12800,
)
INTERN_VIT_300M_448 = VisionConfig(
    image_size=448,
    patch_size=14,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    norm_type="layer_norm",
    qk_normalization=False,
    qkv_bias=True,
    initializer_factor=1.0,
    drop_path_rate=0.1,
)


class TextConfig(BaseModel):
    """Shape of a LLaMA-style decoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(ge=4)
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(default=None, description="As many as heads when left out.")
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048
    qkv_bias: bool = Field(default=False, description="Biases of queries, keys and values, as Qwen2 has them.")
    rope_scaling: RopeScaling | None = Field(default=None, description="How positions of long texts are stretched.")
    bos_token_id: int = Field(default=1, ge=0, description="Begins a text; LLaMA's.")
    eos_token_id: int = Field(default=2, ge=0, description="Ends a text; LLaMA's.")
    sliding_window: int | None = Field(
        default=None, ge=1, description="How many tokens a token sees, the last of them itself; all when left out."
    )

    @model_validator(mode="after")
    def _rope_fits(self) -> "TextConfig":
        half, scaling = self.head_dim // 2, self.rope_scaling
        if isinstance(scaling, LongRope):
            for name in ("short_factor", "long_factor"):
                count = len(getattr(scaling, name))
                if count != half:
                    raise ValueError(
                        f"rope_scaling.{name} holds {count} numbers, and heads of {self.head_dim} have {half} "
                        "frequencies; take the list of this model's own config.json"
                    )
        if isinstance(scaling, DynamicRope) and half < 2:
            raise ValueError(f"rope_scaling of type 'dynamic' needs heads of 4 at least, not {self.head_dim}")
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads


class InternVLConfig(BaseModel):
    """Shape of InternVL-C and InternVL-G (arXiv:2312.14238, sections 3.2 and 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: VisionConfig
    text: TextConfig
    embed_dim: int = Field(ge=1, description="Width of the shared space.")
    attn_pool_num_heads: int = Field(default=16, ge=1)
    num_query_token: int = Field(default=96, ge=1)
    cross_attention_frequency: int = Field(
        default=2, ge=1, description="Every how many layers queries see the image."
    )
    context_length: int = Field(default=80, ge=2, description="Most tokens of a caption, both ends included.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class ChatConfig(BaseModel):
    """Shape of a chat model and everything one needs to talk to it (arXiv:2312.14238, section 3.4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: VisionConfig
    text: TextConfig
    connector: Connector = Field(default="unshuffle_mlp", description="See `models.connectors`.")
    towers: InternVLConfig | None = Field(
        default=None, description="InternVL-G whose queries are shown; `two_mlp` has one, and no other connector."
    )
    downsample_ratio: float = Field(default=0.5, gt=0, le=1, description="Side of the token grid after unshuffling.")
    ps_version: Literal["v1", "v2"] = Field(
        default="v2", description="v1 emits the cells transposed, as old models do."
    )
    select_layer: int = Field(default=-1, description="Which of the vision encoder's hidden states is shown.")
    image_context_token_id: int = Field(ge=0, description="Its embeddings are replaced by the picture's.")
    eos_token_id: int = Field(ge=0, description="Ends a text; also fills where nothing is read.")
    template: str = Field(default="Hermes-2", description="How conversations are written.")
    system_message: str = ""
    context_length: int = Field(default=512, ge=8, description="Most tokens of a conversation, pictures included.")
    min_dynamic_patch: int = Field(default=1, ge=1)
    max_dynamic_patch: int = Field(default=1, ge=1, description="Most tiles per picture, the thumbnail not counted.")
    use_thumbnail: bool = True

    @model_validator(mode="after")
    def _grid_divides(self) -> "ChatConfig":
        if abs(1 / self.downsample_ratio - self.cell) > 1e-6 or self.vision.grid % self.cell:
            raise ValueError(
                f"downsample_ratio {self.downsample_ratio} does not divide a grid of {self.vision.grid} patches; "
                f"only 1/k with k a divisor of the grid is possible"
            )
        return self

    @model_validator(mode="after")
    def _connector_fits(self) -> "ChatConfig":
        if self.connector != "unshuffle_mlp" and self.cell != 1:
            raise ValueError(f"connector {self.connector} unshuffles nothing: downsample_ratio must be 1")
        if (self.connector == "two_mlp") != (self.towers is not None):
            raise ValueError(f"connector {self.connector} {'has' if self.towers else 'needs'} towers, QLLaMA's shape")
        if self.towers and self.towers.vision.hidden_size != self.vision.hidden_size:
            raise ValueError(
                f"QLLaMA looks at {self.towers.vision.hidden_size} numbers a patch and the encoder gives "
                f"{self.vision.hidden_size}; take both from one InternVL-G"
            )
        return self

    @property
    def cell(self) -> int:
        """Patches along one side that become one token."""
        return int(1 / self.downsample_ratio)

    @property
    def num_image_token(self) -> int:
        """Context tokens of one tile; QLLaMA's queries are some of them."""
        queries = self.towers.num_query_token if self.towers else 0
        return queries + (self.vision.grid // self.cell) ** 2
