"""The smoke recipe: the tiny recipe at a fraction of its rows and steps, to try an installation."""

from typing import Any

from filters.policies import clean
from pipelines.names import RecipeName
from pipelines.recipes.recipe import Recipe
from pipelines.recipes.tiny import tiny

ROWS = {"laion_en": 240, "cc3m": 240}
HELD_OUT_SHARE = 0.15
STEPS = {"steps": 3, "warmup_steps": 1, "global_batch_size": 16}


def _short(parameters: Any, **fewer: Any) -> Any:
    """Return a training stage's parameters with a few steps, and other fields replaced."""
    schedule = parameters.schedule.model_copy(update=STEPS)
    return parameters.model_copy(update={"schedule": schedule, "held_out_share": HELD_OUT_SHARE, **fewer})


def smoke(web_url: str) -> Recipe:
    """Return the smallest recipe that runs every stage; what it trains has learned next to nothing.

    A network of three steps finds every pair alike, so the two rules on its embeddings are left open.
    """
    whole = tiny(web_url, rows=ROWS)
    light = clean(min_similarity=-1, min_pixels=40, max_eval_similarity=1, min_bytes=256)
    return whole.model_copy(
        update={
            "name": RecipeName.SMOKE,
            "sources": tuple(each.model_copy(update={"clean": light}) for each in whole.sources),
            "filtering_network": whole.filtering_network.model_copy(update={**STEPS, "held_out": 32}),
            "score": whole.score.model_copy(update={"evaluation_scenes": 32}),
            "language": _short(whole.language, documents=400, held_out=16),
            "contrastive": _short(whole.contrastive, held_out=32),
            "generative": _short(whole.generative, held_out=32),
            "conversations": whole.conversations.model_copy(update={"scenes": 96}),
            "instruct": _short(whole.instruct, held_out=16),
            "evaluations": tuple(each.model_copy(update={"scenes": 8}) for each in whole.evaluations),
        }
    )
