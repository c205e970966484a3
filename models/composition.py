"""What a system of the InternVL family is composed of: encoder, towers, language model, and how they meet."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import ChatConfig, Connector, InternVLConfig, TextConfig, VisionConfig
from models.rope import RopeScaling

Layout = Literal["llama", "qwen2", "internlm2", "phi3"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Language(_Data):
    """A language model: its shape as a LLaMA decoder, and the layout in which its weights are published.

    InternLM2 computes what LLaMA computes and fuses queries, keys and values (its configurations also stretch
    positions, from 32768 tokens on, which no chat model here reaches); Phi-3 fuses them too, and gate with up, and
    its 128k models stretch the rotary frequencies by factors that stand in their own `config.json` alone.
    """

    source: str = Field(description="Where its weights come from.")
    layout: Layout = "llama"
    shape: TextConfig
    factors_elsewhere: bool = Field(
        default=False, description="Whether its positions are stretched by lists that only its `config.json` holds."
    )


class ChatPart(_Data):
    """How a chat model shows pictures to its language model."""

    connector: Connector = Field(
        default="unshuffle_mlp",
        description="`unshuffle_mlp`: pixel unshuffle, norm, two layers; `mlp`: two layers, as LLaVA has them; "
        "`two_mlp`: two layers for the tokens of the picture and two for QLLaMA's queries, shown first.",
    )
    downsample_ratio: float = Field(default=0.5, gt=0, le=1)
    ps_version: Literal["v1", "v2"] = "v2"
    select_layer: int = -1
    template: str
    max_dynamic_patch: int = Field(default=1, description="Most tiles per picture in training; 1 is a fixed size.")
    context_length: int = 4096


class Size(_Data):
    """One published system; exactly the parts it has are set."""

    name: str
    kind: Literal["vision", "contrastive", "generative", "language", "chat"]
    aliases: tuple[str, ...] = ()
    vision: VisionConfig | None = None
    towers: InternVLConfig | None = Field(default=None, description="InternVL-C or -G; for a chat model, its QLLaMA.")
    language: Language | None = None
    chat: ChatPart | None = None
    released: bool = Field(default=True, description="Whether weights were published.")
    note: str = ""

    @property
    def image_tokens(self) -> int:
        """Tokens of one tile that the language model sees; 0 where there is no chat."""
        if self.chat is None or self.vision is None:
            return 0
        if self.chat.connector == "unshuffle_mlp":
            return int(self.vision.grid * self.chat.downsample_ratio) ** 2
        queries = self.towers.num_query_token if self.chat.connector == "two_mlp" and self.towers else 0
        return queries + self.vision.grid**2

    def chat_config(
        self,
        *,
        image_context_token_id: int,
        eos_token_id: int,
        system_message: str = "",
        rope_scaling: RopeScaling | None = None,
    ) -> ChatConfig:
        """Return the configuration of our chat model.

        Args:
            image_context_token_id: The tokenizer's: look it up.
            eos_token_id: As well.
            system_message: What its conversations begin with.
            rope_scaling: How its positions are stretched, as `rope_scaling_of` reads it off a `config.json`;
                a Phi-3 needs it.

        Raises:
            ValueError: Our chat model cannot compute this one.
        """
        if self.kind != "chat" or not (self.chat and self.vision and self.language):
            raise ValueError(f"{self.name} is no chat model")
        scaling = rope_scaling or self.language.shape.rope_scaling
        if self.language.factors_elsewhere and scaling is None:
            raise ValueError(
                f"{self.language.source} stretches its rotary frequencies by lists that stand in its config.json "
                "alone; give rope_scaling=rope_scaling_of(its llm_config, 'Phi3ForCausalLM')"
            )
        text = self.language.shape.model_dump() | {"rope_scaling": scaling}  # so that its lists are checked
        return ChatConfig(
            vision=self.vision,
            text=TextConfig.model_validate(text),
            image_context_token_id=image_context_token_id,
            eos_token_id=eos_token_id,
            system_message=system_message,
            towers=self.towers,
            **self.chat.model_dump(),
        )
