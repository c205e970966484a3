"""The one_gpu recipe: your own url list, a pre-trained language model, one GPU of 80 to 140 GB.

Where the paper's number fits one GPU it is the paper's (arXiv:2312.14238); the others are ours, each with its
reason. The vision tower has the width of InternViT-300M (arXiv:2410.16261) and starts from it where it is given.
"""

from typing import Any

from filters.policies import caption_quality, clean
from infra.settings import settings
from models.config import INTERN_VIT_300M_448, TextConfig
from pipelines.names import RecipeName
from pipelines.recipes import OwnData
from pipelines.recipes.own_source import own_download, own_listing
from pipelines.recipes.recipe import Recipe, SourceRecipe
from pipelines.recipes.systems import exports_of, lessons_of
from stages import (
    contrastive,
    conversations,
    evaluate,
    filtering_network,
    generative,
    instruct,
    language,
    score,
)
from stages.training.schedule import Schedule

IMAGE_SIZE = 224
HELD_OUT, HELD_OUT_SHARE = 256, 0.01
"""Pictures that are measured on, and the share of all that is never trained on: 256 of 25,600."""
SHAPE = TextConfig(
    vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4, rms_norm_eps=1e-5,
)  # fmt: skip
"""What a plan counts by before a language model is named: TinyLlama-1.1B (arXiv:2401.02385), the smallest LLaMA."""

ONE = {"workers": 1, "gpus_per_worker": 1, "activation_checkpointing": True, "compile": True, "data_workers": 8}
PLACEMENT: dict[str, dict[str, Any]] = {
    # Contrast over 4,096 pairs from 16 micro batches: GradCache computes each twice and holds one at a time.
    "contrastive": {**ONE, "micro_batch_size": 256, "checkpoint_steps": 200},
    "generative": {**ONE, "micro_batch_size": 64, "checkpoint_steps": 200},
    "instruct": {**ONE, "max_packed_tokens": 8_192, "max_packed_tiles": 48, "checkpoint_steps": 200},
    "benchmark": {"gpus_per_worker": 1},
}


def _schedule(batch: int, steps: int, rate: float, warmup: int, **more: Any) -> Schedule:
    return Schedule(
        global_batch_size=batch,
        steps=steps,
        learning_rate=rate,
        warmup_steps=warmup,
        final_ratio=0.0,
        precision="bf16",
        **more,
    )


def contrastive_parameters(start_vision: str | None) -> contrastive.Parameters:
    """Return stage 1: the paper's masking, rates by tower, decay and betas; batch, steps and peak are ours.

    20,000 steps of 4,096 pairs see 82 million, about eight passes of ten million; a batch 40 times smaller than the
    paper's has half of its peak rate. The last tenth sees whole pictures, where the paper has 1.7 %: a short run
    has no fewer positions to get used to. From a trained encoder the rates are a tenth of that.
    """
    shape = INTERN_VIT_300M_448
    steps, whole = 20_000, 2000
    return contrastive.Parameters(
        image_size=IMAGE_SIZE,
        patch_size=shape.patch_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        norm_type=shape.norm_type,
        qk_normalization=shape.qk_normalization,
        qkv_bias=shape.qkv_bias,
        # 1.0 in the published file, after training; 0.1 is what a deep tower begins with (InternViT-6B's).
        layer_scale=0.1,
        drop_path_rate=0.1,
        embed_dim=768,
        attn_pool_num_heads=16,
        text_learning_rate_scale=0.1,
        patch_learning_rate_scale=0.5,
        masked_image_size=196,
        mask_ratio=0.5,
        unmasked_steps=whole,
        smallest_crop=0.5,
        held_out_share=HELD_OUT_SHARE,
        held_out=HELD_OUT,
        start_vision=start_vision,
        schedule=_schedule(
            4096, steps, 5e-5 if start_vision else 5e-4, 1000,
            weight_decay=0.1, rewarm_at=steps - whole, rewarm_steps=200,
        ),
    )  # fmt: skip


def generative_parameters() -> generative.Parameters:
    """Return stage 2: the paper's queries, betas and decay; a batch of 512 and 20,000 steps are ours.

    The rate is twice the paper's: the cross-attention of a small language model is a quarter as wide.
    """
    given = generative.paper_parameters()
    schedule = _schedule(512, 20_000, 1e-4, 1000, beta2=0.98, weight_decay=0.05)
    return given.model_copy(update={"held_out_share": HELD_OUT_SHARE, "held_out": HELD_OUT, "schedule": schedule})


def instruct_parameters() -> instruct.Parameters:
    """Return stage 3 with the rates of Mini-InternVL (arXiv:2410.16261), whose size this is; 2,000 steps are ours."""
    return instruct.Parameters(
        image_size=IMAGE_SIZE,
        context_length=1024,
        drop_path_rate=0.1,
        held_out_share=HELD_OUT_SHARE,
        held_out=HELD_OUT,
        schedule=_schedule(128, 2000, 4e-5, 60, beta2=0.999, weight_decay=0.01),
    )


def chat_lessons(system: str) -> tuple[instruct.Parameters | None, instruct.Parameters]:
    """Return alignment and instruction tuning: those of a published system, or our one.

    Of a system's numbers batch and steps are ours: 128 conversations fit one GPU, and the official scripts for tuning
    further have the same, with rates as in the large run. Blocks of the encoder that ours does not have are no loss.
    """
    if not system:
        return None, instruct_parameters()
    first, second = lessons_of(system)
    return _on_one(first, 500), _on_one(second, 2000)


def _on_one(given: instruct.Parameters, steps: int) -> instruct.Parameters:
    """Return a lesson of a system with the batch and the steps of one GPU."""
    fewer = {"global_batch_size": 128, "steps": steps, "warmup_steps": round(0.03 * steps)}
    aside = {"held_out_share": HELD_OUT_SHARE, "held_out": HELD_OUT}
    return given.model_copy(update={"schedule": given.schedule.model_copy(update=fewer), **aside})


def one_gpu(own: OwnData) -> Recipe:
    """Return the recipe for a user's list; the language model is looked for in `models/language` of our home.

    The similarity rule is left open, as in the photos recipe: the filtering network trained on your own rows judges
    fit only roughly.
    """
    source = SourceRecipe(
        listing=own_listing(own, rows_per_part=10_000),
        download=own_download(own, image_size=256, threads=32),
        clean=clean(min_similarity=-1),
        caption_quality=caption_quality("own"),
        trusted=True,
    )
    spoken = language.Parameters(
        pretrained=own.language_model or str(settings().home / "models" / "language"), pretrained_shape=SHAPE
    )
    aligned, tuned = chat_lessons(own.system)
    return Recipe(
        name=RecipeName.ONE_GPU,
        system=own.system or None,
        sources=(source,),
        filtering_network=filtering_network.Parameters(
            image_size=64, patch_size=8, held_out=HELD_OUT, global_batch_size=256, steps=2000
        ),
        score=score.Parameters(image_size=64, pixel_facts=True, near_duplicates=True),
        language=language.pin(spoken),
        contrastive=contrastive_parameters(own.vision_model or None),
        generative=generative_parameters(),
        conversations=conversations.Parameters(
            captions=True, image_size=tuned.image_size or IMAGE_SIZE, rows_per_shard=10_000
        ),
        align=aligned,
        instruct=tuned,
        evaluations=tuple(
            evaluate.Parameters(kind=kind, held_out=HELD_OUT, image_size=IMAGE_SIZE)
            for kind in ("contrastive", "generative", "instruct")
        ),
        exports=exports_of(tuned),
        rows_per_shard=10_000,
        placement=PLACEMENT,
    )
