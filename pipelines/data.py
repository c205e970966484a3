"""From url lists to training shards, as one Prefect flow."""

from prefect import flow

from pipelines.dry_run import show
from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="data", flow_run_name="data-{recipe}", task_runner=RUNNER, **HOOKS)
def build_data(
    recipe: RecipeName = RecipeName.TINY,
    version: str = "",
    own: OwnData = NO_DATA,
    force: bool = False,
    dry_run: bool = False,
) -> list[str]:
    """Build a recipe's training shards; work that stands is found and skipped.

    Args:
        recipe: Which recipe to follow.
        version: Name of the result; the recipe's name when left empty.
        own: Your data, for the recipes photos and one_gpu; lists and trained models, for paper.
        force: Make everything again, also what stands.
        dry_run: Only show which steps would run and what they would cost; nothing is done.
    """
    steps = steps_of(FlowName.DATA, recipe, version, own)
    return show(steps, force) if dry_run else run_steps(steps, force)
