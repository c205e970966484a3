"""The tiny recipe: a drawn world on a loopback web, minutes on two cores."""

from filters.policies import caption_quality, clean
from pipelines.names import RecipeName
from pipelines.recipes.recipe import Recipe, SourceRecipe
from pipelines.recipes.small_probes import SMALL_PROBES
from stages import (
    contrastive,
    conversations,
    download,
    evaluate,
    filtering_network,
    generative,
    instruct,
    language,
    list_urls,
    score,
)
from stages.sources.web_site import SiteSpec

IMAGE_SIZE = 48
# Sources whose captions are trusted enough to learn from; one per language.
TRUSTED = ("cc3m", "wukong", "laion_multi")


def tiny(web_url: str, rows: dict[str, int] | None = None, seed: int = 0) -> Recipe:
    """Return the recipe for the loopback web at an address.

    Args:
        web_url: Where the web listens.
        rows: Fewer of its rows, by source.
        seed: Which web is drawn; evaluation pictures are of the same one.
    """
    site = SiteSpec(base_url=web_url, seed=seed, **({"rows": rows} if rows else {}))
    fetch = download.Parameters(
        image_size=IMAGE_SIZE,
        timeout_seconds=4,
        deadline_seconds=6,
        threads=8,
        per_host=32,  # the whole drawn web is one host
        allow_hosts=(web_url.removeprefix("http://"),),
        truth=site,
    )
    # Chosen on the distributions that the filtering network gives (docs/log.md): wrong captions lie below
    # 0.65 nine times in ten, clean ones once in five hundred; copies of evaluation pictures lie above
    # 0.9996, one other picture in a thousand above 0.9995.
    light = clean(min_similarity=0.65, min_pixels=40, max_eval_similarity=0.9995, min_bytes=256)
    return Recipe(
        name=RecipeName.TINY,
        sources=tuple(
            SourceRecipe(
                listing=list_urls.Parameters(source=source, site=site),
                download=fetch,
                clean=light,
                caption_quality=caption_quality(source),
                trusted=source in TRUSTED,
            )
            for source in site.rows
        ),
        filtering_network=filtering_network.Parameters(image_size=IMAGE_SIZE, min_source_similarity=0.3),
        score=score.Parameters(evaluation_scenes=256, image_size=IMAGE_SIZE, seed=seed),
        language=language.Parameters(),
        contrastive=contrastive.Parameters(image_size=IMAGE_SIZE),
        generative=generative.Parameters(),
        conversations=conversations.Parameters(
            scenes=16000,
            questions_per_scene=5,
            # Colour and number are learned from a few thousand questions. Whether something is there takes many
            # more, things that are asked for again and again, and look-ups beside them; and all three languages in
            # one conversation, or it is learned in one and not in another (docs/log.md).
            shares={
                "color": 1.0,
                "shape": 1.5,
                "relation": 1.5,
                "count": 0.5,
                "exists": 4.0,
                "lookup": 4.0,
                "presence": 4.0,
                "familiar": 4.0,
            },
            mixed_languages=True,
            described=0.3,
            image_size=IMAGE_SIZE,
        ),
        instruct=instruct.Parameters(),
        evaluations=tuple(
            evaluate.Parameters(kind=kind, scenes=256, image_size=IMAGE_SIZE)
            for kind in ("contrastive", "generative", "instruct")
        ),
        protocols=SMALL_PROBES,
        truth=site,
        placement={"contrastive": {"workers": 2}},
    )
