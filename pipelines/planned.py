"""The plan of a recipe's training as a Prefect flow: the tables of `internvl plan`, kept as an artifact."""

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines.names import FlowName, RecipeName, Version
from pipelines.recipes import NO_DATA, OwnData


@flow(name="plan", flow_run_name="plan-{recipe}-{cluster}")
def plan(
    recipe: RecipeName = RecipeName.PAPER,
    cluster: str = "640xA100",
    dollars_per_gpu_hour: Annotated[float | None, Field(gt=0)] = None,
    version: Version = "",
    own: OwnData = NO_DATA,
) -> str:
    """Count what a recipe's training needs of a cluster; nothing is read or run.

    Args:
        recipe: Which recipe.
        cluster: How many GPUs of which kind, such as 640xA100 or 8xH100-80GB.
        dollars_per_gpu_hour: What a GPU costs for an hour.
        version: Name of the result; the recipe's name when left empty.
        own: Your data and models.
    """
    # These count models and so import torch, which serving the flow can spare.
    from pipelines.budget import budgets
    from pipelines.clusters import gpus_of
    from pipelines.plan import states_of, steps_of
    from pipelines.plan_tables import markdown
    from pipelines.training_price import training_prices

    gpus, store = gpus_of(cluster), Store(settings().store_root)
    steps = steps_of(FlowName.INTERNVL, recipe, version, own)
    states = states_of(steps, store)
    found = budgets(
        steps, training_prices(steps), states, store, gpus, dollars_per_hour=dollars_per_gpu_hour, given=None
    )
    text = f"## {recipe} on {gpus}\n\n{markdown(found, gpus)}"
    create_markdown_artifact(text, key=f"plan-{recipe.replace('_', '-')}")
    return text
