"""The whole road as one Prefect flow: url lists in, chat model out."""

from prefect import flow

from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="internvl", flow_run_name="internvl-{recipe}", task_runner=RUNNER, **HOOKS)
def build_everything(
    recipe: RecipeName = RecipeName.TINY,
    version: str = "",
    own: OwnData = NO_DATA,
    force: bool = False,
) -> list[str]:
    """Follow a recipe from url lists to evaluated and exported models; work that stands is found and skipped.

    Training that needs no data of this road runs beside it.

    Args:
        recipe: Which recipe to follow.
        version: Name of the result; the recipe's name when left empty.
        own: Your data, for the recipes photos and one_gpu; lists and trained models, for paper.
        force: Make everything again, also what stands.
    """
    return run_steps(steps_of(FlowName.INTERNVL, recipe, version, own), force)
