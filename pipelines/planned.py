"""The plan of a recipe as a Prefect flow: what `internvl plan` prints, kept as an artifact."""

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines.names import FlowName, RecipeName, Version
from pipelines.pilot import run_pilot
from pipelines.pricing import pilot_steps
from pipelines.recipes import NO_DATA, OwnData
from stages.manifest import find


@flow(name="plan", flow_run_name="plan-{recipe}-{cluster}")
def plan(
    recipe: RecipeName = RecipeName.PAPER,
    cluster: str = "640xA100",
    dollars_per_gpu_hour: Annotated[float | None, Field(gt=0)] = None,
    share_of_peak: Annotated[float | None, Field(gt=0, le=1)] = None,
    pilot_urls: Annotated[int, Field(ge=0)] = 0,
    downloads_at_once: Annotated[int, Field(ge=0)] = 0,
    requests_per_host_and_second: Annotated[float | None, Field(gt=0)] = None,
    keep_forecasts: bool = False,
    version: Version = "",
    own: OwnData = NO_DATA,
) -> str:
    """Say what a recipe would do, and what that takes; nothing is run but the pilot, where one is asked for.

    Args:
        recipe: Which recipe.
        cluster: How many GPUs of which kind, such as 640xA100 or 8xH100-80GB; empty reckons without one.
        dollars_per_gpu_hour: What a GPU costs for an hour.
        share_of_peak: Of the cards, to reckon with; what was measured, or else is assumed, when left empty.
        pilot_urls: Download so many urls of each source, to price the whole lists; 0 goes by pilots that stand.
        downloads_at_once: To reckon with; this machine's CPUs when 0.
        requests_per_host_and_second: To one host; the recipe's when left empty, 0 no limit.
        keep_forecasts: Keep the forecast of each training beside its checkpoint, to be held against its run.
        version: Name of the result; the recipe's name when left empty.
        own: Your data and models.
    """
    # These count models and so import torch, which serving the flow can spare.
    from pipelines.plan_document import Asked, made
    from pipelines.sections import markdown

    if pilot_urls:
        store = Store(settings().store_root)
        if not all(find(store, step.spec.artifact) for step in pilot_steps(recipe, pilot_urls, version, own)):
            run_pilot(recipe=recipe, urls=pilot_urls, version=version, own=own)
    found = made(
        Asked(
            FlowName.INTERNVL, recipe, version, own, cluster, dollars_per_gpu_hour, share_of_peak, pilot=pilot_urls,
            workers=downloads_at_once, host_rate=requests_per_host_and_second, keep=keep_forecasts,
        )
    )  # fmt: skip
    text = f"## {recipe}{f' on {found.gpus}' if found.gpus else ''}\n\n{markdown(found.sections())}"
    create_markdown_artifact(text, key=f"plan-{recipe.replace('_', '-')}")
    return text
