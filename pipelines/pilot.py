"""A pilot of each source's list, as one Prefect flow: a few urls, drawn by hash, are downloaded to price the rest."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from pipelines.hooks import HOOKS
from pipelines.names import RecipeName, Version
from pipelines.pricing import pilot_steps
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="pilot", flow_run_name="pilot-{recipe}", task_runner=RUNNER, **HOOKS)
def run_pilot(
    recipe: RecipeName = RecipeName.TINY,
    urls: Annotated[int, Field(ge=1)] = 10_000,
    version: Version = "",
    own: OwnData = NO_DATA,
) -> list[str]:
    """Download a few urls of each source of a recipe, to see what the whole lists would cost.

    Args:
        recipe: Which recipe's sources.
        urls: Distinct urls per source.
        version: Name of the listings; the recipe's name when left empty.
        own: Your data, for the photos recipe.
    """
    return run_steps(pilot_steps(recipe, urls, version, own))
