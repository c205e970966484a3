"""The photos recipe: your own pictures and captions, from a url list, a folder or a tar."""

from typing import Any

from filters.policies import caption_quality, clean
from pipelines.names import RecipeName
from pipelines.recipes import OwnData
from pipelines.recipes.own_source import own_download, own_listing
from pipelines.recipes.recipe import Recipe, SourceRecipe
from pipelines.recipes.small_probes import SMALL_PROBES
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

IMAGE_SIZE = 64
ASIDE: dict[str, Any] = {"held_out_share": 0.1, "held_out": 32}
"""Of a few hundred pictures, a few dozen."""


def schedule(steps: int, learning_rate: float = 2e-3) -> Schedule:
    """Return a schedule for a few hundred pictures: small batches, each seen many times."""
    return Schedule(global_batch_size=32, steps=steps, learning_rate=learning_rate, warmup_steps=20)


def photos(own: OwnData) -> Recipe:
    """Return the recipe for a user's data.

    A network trained on a few hundred pictures judges fit only roughly, so the similarity rule
    is left open here; name a pre-trained CLIP in `score.clip_model` to use it.
    """
    source = SourceRecipe(
        listing=own_listing(own, rows_per_part=250),
        download=own_download(own, image_size=IMAGE_SIZE, resize_mode="border"),
        clean=clean(min_similarity=-1, min_bytes=512),
        # Captions of people who describe pictures: "Kids ride outside in red car ." is one worth keeping.
        caption_quality=caption_quality("own", min_units=4, min_function_words=1),
        trusted=True,
    )
    return Recipe(
        name=RecipeName.PHOTOS,
        sources=(source,),
        filtering_network=filtering_network.Parameters(
            image_size=IMAGE_SIZE,
            patch_size=16,
            hidden_size=64,
            num_hidden_layers=2,
            held_out=32,
            global_batch_size=32,
            steps=40,
        ),
        score=score.Parameters(image_size=IMAGE_SIZE),
        language=language.Parameters(documents=0, **ASIDE, schedule=schedule(200)),
        contrastive=contrastive.Parameters(image_size=IMAGE_SIZE, **ASIDE, schedule=schedule(200)),
        generative=generative.Parameters(**ASIDE, schedule=schedule(150)),
        conversations=conversations.Parameters(captions=True, image_size=IMAGE_SIZE),
        instruct=instruct.Parameters(**ASIDE, schedule=schedule(200)),
        evaluations=tuple(
            evaluate.Parameters(kind=kind, held_out=32, image_size=IMAGE_SIZE)
            for kind in ("contrastive", "generative", "instruct")
        ),
        protocols=SMALL_PROBES,
        rows_per_shard=500,
    )
