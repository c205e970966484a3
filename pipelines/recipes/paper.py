"""The paper recipe: all eight sources, InternViT-6B, LLaMA-7B and QLLaMA-8B (arXiv:2312.14238).

Nothing of it was ever run here as a whole: it is what the paper says, number by number, and a choice of ours
with its reason where the paper says nothing. Where lists and language model lie is yours to say.
"""

from typing import Any, NamedTuple

from filters.policies import caption_quality, clean
from infra.settings import settings
from models.sizes import LLAMA_7B_TEXT
from pipelines.names import RecipeName
from pipelines.recipes import OwnData
from pipelines.recipes.recipe import Recipe, SourceRecipe
from pipelines.recipes.systems import exports_of, lessons_of, room_of
from stages import (
    conversations,
    download,
    evaluate,
    filtering_network,
    generative,
    language,
    list_urls,
    score,
)
from stages.contrastive_parameters import paper_parameters

STORED_SIZE = 256
"""Ours: side of stored pictures, a little above the 224 pixels that are shown."""
CLIP_MODEL = "open_clip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
"""Ours: the paper filters by CLIP similarity (section 3.1) and names no model; this one reads all its languages."""
ENGLISH_CLIP_MODEL = "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""Ours: of the same size, for sources whose captions are English."""

SYSTEM = "InternVL-Chat-V1-0-7B"
"""The third stage without QLLaMA, as released at the paper's time (section 3.4). Ours: the conversations are made of
captions, because the paper's four million are not part of this road."""


class Listed(NamedTuple):
    """One line of Table 2: the schema that its list has, and the language of its captions where no column says it."""

    name: str
    schema: str
    withdrawn_schema: str = ""
    language: str | None = None
    english: bool = True
    """Whether its captions are English, as the table says."""


# LAION-2B was withdrawn by its publisher: Re-LAION-5B takes its place, so Table 2's counts cannot be met exactly.
SOURCES = (
    Listed("laion_en", "re_laion", "laion2b_en", "en"),
    Listed("laion_coco", "laion_coco"),
    Listed("coyo", "coyo"),
    Listed("cc12m", "cc12m"),
    Listed("cc3m", "cc3m"),
    Listed("sbu", "sbu"),
    Listed("wukong", "wukong", english=False),
    Listed("laion_multi", "re_laion", "laion2b_multi", english=False),
)

SHARDED = {"gpus_per_worker": 1, "sharding": "fsdp2", "activation_checkpointing": True, "data_workers": 8}
PRETRAINING = {**SHARDED, "checkpoint_steps": 500, "collective_timeout_seconds": 1800.0}
PLACEMENT: dict[str, dict[str, Any]] = {
    "score": {"gpus_per_worker": 1},
    "benchmark": {"gpus_per_worker": 1},
    # 640 and 160 A100 of 80 GB (appendix, training settings): 256 and 128 pairs each, which fit at once when
    # blocks are computed again (20 GB of kept inputs of blocks at 224 px), so nothing is embedded twice.
    "contrastive": {**PRETRAINING, "workers": 640},
    "generative": {**PRETRAINING, "workers": 160},
    # The released chat model of this size was tuned on 8 GPUs with all states in shards. The system has its room.
    "instruct": {**SHARDED, "workers": 8},
}

ASIDE = {"held_out_share": 1e-4}
"""Ours: half a million of five billion pictures are never trained on, and a hundred of each million conversations."""


def _source(listed: Listed, own: OwnData, lists: str) -> SourceRecipe:
    schema = listed.withdrawn_schema if own.accept_withdrawn and listed.withdrawn_schema else listed.schema
    return SourceRecipe(
        # Not pinned: the lists are about a terabyte, and hashing them at every start would take hours.
        listing=list_urls.Parameters(
            source=listed.name,
            paths=(f"{lists.rstrip('/')}/{listed.name}/*",),
            adapter=schema,
            language=listed.language,
            accept_withdrawn=own.accept_withdrawn,
            block_urls=own.block_urls,
            block_domains=own.block_domains,
            rows_per_part=10_000,
        ),
        download=download.pin(
            download.Parameters(
                image_size=STORED_SIZE,
                threads=64,
                allow_hosts=own.allow_hosts,
                block_urls=own.block_urls,
                block_domains=own.block_domains,
            )
        ),
        clean=clean(),
        caption_quality=caption_quality(listed.name),
        clip_model=ENGLISH_CLIP_MODEL if listed.english else None,
    )


def paper(own: OwnData) -> Recipe:
    """Return the paper's recipe; lists are looked for in `lists/SOURCE/` and LLaMA in `models/llama` of our home.

    `own` names other places. The text tower is LLaMA-7B with a vocabulary of 49,954 (Chinese-Alpaca, section 3.2);
    another language model of LLaMA's kind takes its place with its own shape.
    """
    home = settings().home
    spoken = language.Parameters(
        pretrained=own.language_model or str(home / "models" / "llama"), pretrained_shape=LLAMA_7B_TEXT
    )
    seen = paper_parameters().model_copy(update={"start_vision": own.vision_model or None, **ASIDE})
    lists = own.lists or str(home / "lists")
    system = own.system or SYSTEM
    aligned, tuned = lessons_of(system)
    return Recipe(
        name=RecipeName.PAPER,
        system=own.system or None,
        sources=tuple(_source(each, own, lists) for each in SOURCES),
        filtering_network=filtering_network.Parameters(),  # nobody asks it: there is a CLIP
        score=score.Parameters(clip_model=CLIP_MODEL, image_size=224, keep_embeddings=False, near_duplicates=True),
        language=language.pin(spoken),
        contrastive=seen,
        generative=generative.paper_parameters().model_copy(update=ASIDE),
        conversations=conversations.Parameters(captions=True, image_size=tuned.image_size, rows_per_shard=10_000),
        align=aligned.model_copy(update=ASIDE),
        instruct=tuned.model_copy(update=ASIDE),
        evaluations=tuple(
            evaluate.Parameters(kind=kind, held_out=256, image_size=224)
            for kind in ("contrastive", "generative", "instruct")
        ),
        exports=exports_of(tuned),
        rows_per_shard=10_000,
        placement={**PLACEMENT, "instruct": {**PLACEMENT["instruct"], **room_of(system)}},
    )
