"""What a recipe is made of."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from filters.policies import Policy
from pipelines.names import RecipeName
from stages import (
    benchmark,
    contrastive,
    conversations,
    download,
    evaluate,
    export,
    filtering_network,
    generative,
    instruct,
    language,
    list_urls,
)
from stages.conversation_sources import OwnConversations, mixture
from stages.evaluations.registry import ProtocolName
from stages.score import Parameters as Scoring
from stages.sources.web_site import SiteSpec


class SourceRecipe(BaseModel):
    """One source: where it comes from and what it has to pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listing: list_urls.Parameters
    download: download.Parameters
    clean: Policy
    caption_quality: Policy
    trusted: bool = Field(default=False, description="Whether the filtering network learns from it.")
    clip_model: str | None = Field(
        default=None, description="A CLIP of this source's own language; that of the recipe's `score` when left out."
    )

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.listing.source


class Recipe(BaseModel):
    """A whole run; where it runs is `placement` and never part of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName
    sources: tuple[SourceRecipe, ...]
    filtering_network: filtering_network.Parameters
    score: Scoring
    language: language.Parameters
    contrastive: contrastive.Parameters
    generative: generative.Parameters
    conversations: conversations.Parameters
    system: str | None = Field(default=None, description="Published chat system that the user asked to follow.")
    align: instruct.Parameters | None = Field(
        default=None, description="A chat model's first training, before `instruct`; none when left out."
    )
    instruction_data: tuple[OwnConversations, ...] = Field(
        default=(), description="Instruction data of one's own; it takes the place of scenes and captions."
    )
    instruct: instruct.Parameters
    evaluations: tuple[evaluate.Parameters, ...] = Field(description="Which checkpoints are measured, and on what.")
    benchmarks: dict[str, benchmark.Parameters] = Field(
        default_factory=dict,
        description="Kind of checkpoint (contrastive, generative, instruct) to the benchmarks it is measured on; "
        "`internvl evaluate` finds those whose data lie below a folder.",
    )
    protocols: dict[ProtocolName, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of evaluation protocols in place of the paper's, which small models on two cores would "
        "be busy with for months; `--set` goes before them.",
    )
    exports: tuple[export.Parameters, ...] = (
        export.Parameters(kind="contrastive"),
        export.Parameters(kind="instruct"),
    )
    truth: SiteSpec | None = None
    rows_per_shard: int = 2000
    seed: int = 0
    placement: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def scoring(self, source: SourceRecipe) -> Scoring:
        """Return how a source is scored: as all are, by its own CLIP where it names one."""
        return self.score.model_copy(update={"clip_model": source.clip_model or self.score.clip_model})

    @property
    def asks_the_network(self) -> bool:
        """Whether any source is scored by the filtering network."""
        return any(self.scoring(source).clip_model is None for source in self.sources)

    def told(self, sources: tuple[OwnConversations, ...], mixing: Literal["repeat", "square_root"]) -> "Recipe":
        """Return a recipe whose chat model learns from these sources in all its trainings.

        Args:
            sources: Instruction data.
            mixing: `repeat` or `square_root`; see `stages.conversation_sources.mixture`.
        """
        mixed = {"mixture": mixture(sources, mixing)}
        align = self.align and self.align.model_copy(update=mixed)
        changed = {"instruction_data": sources, "align": align, "instruct": self.instruct.model_copy(update=mixed)}
        return self.model_copy(update=changed)
