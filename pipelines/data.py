"""From url lists to training shards, as one Prefect flow."""

from prefect import flow

from pipelines.dry_run import show
from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName, Version
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="data", flow_run_name="data-{recipe}", task_runner=RUNNER, **HOOKS)
def build_data(
    recipe: RecipeName = RecipeName.TINY,
    version: Version = "",
    dry_run: bool = False,
    force: bool = False,
    own: OwnData = NO_DATA,
) -> list[str]:
    """Build a recipe's training shards; work that stands is found and skipped.

    Args:
        recipe: Which recipe to follow: tiny (a drawn world, minutes on two cores), smoke (a fraction of tiny), photos
            (your pictures), one_gpu (your data, one GPU), paper (the whole reproduction).
        version: Name of the result; the recipe's name when left empty.
        dry_run: Only show which steps would run and what they would cost; nothing is done.
        force: Make everything again, also what stands.
        own: Your data, for the recipes photos and one_gpu; lists and trained models, for paper.
    """
    steps = steps_of(FlowName.DATA, recipe, version, own)
    return show(steps, force) if dry_run else run_steps(steps, force)
