"""The whole road as one Prefect flow: url lists in, chat model out."""

from prefect import flow

from pipelines.dry_run import show
from pipelines.gate import run_with_approval
from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName, Version
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="internvl", flow_run_name="internvl-{recipe}", task_runner=RUNNER, **HOOKS)
def build_everything(
    recipe: RecipeName = RecipeName.TINY,
    version: Version = "",
    approve_before_training: bool = False,
    dry_run: bool = False,
    force: bool = False,
    own: OwnData = NO_DATA,
) -> list[str]:
    """Follow a recipe from url lists to evaluated and exported models; work that stands is found and skipped.

    Training that needs no data of this road runs beside it, unless the run waits for an approval.

    Args:
        recipe: Which recipe to follow: tiny (a drawn world, minutes on two cores), smoke (a fraction of tiny), photos
            (your pictures), one_gpu (your data, one GPU), paper (the whole reproduction).
        version: Name of the result; the recipe's name when left empty.
        approve_before_training: Stop after the filters and show what they kept; a person approves or rejects it
            with a note before anything is trained. What was approved once is not asked again.
        dry_run: Only show which steps would run and what they would cost; nothing is done.
        force: Make everything again, also what stands.
        own: Your data, for the recipes photos and one_gpu; lists and trained models, for paper.
    """
    steps = steps_of(FlowName.INTERNVL, recipe, version, own)
    if dry_run:
        return show(steps, force)
    return run_with_approval(steps, force) if approve_before_training else run_steps(steps, force)
