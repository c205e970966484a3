"""From training shards to a chat model, as one Prefect flow."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines.dry_run import show
from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName, Version
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps
from pipelines.upstream import reading


@flow(name="train", flow_run_name="train-{recipe}", task_runner=RUNNER, **HOOKS)
def train_models(
    recipe: RecipeName = RecipeName.TINY,
    version: Version = "",
    upstream: Version = "",
    evaluate_every: Annotated[int, Field(ge=0)] = 0,
    best: str = "",
    dry_run: bool = False,
    force: bool = False,
    own: OwnData = NO_DATA,
) -> list[str]:
    """Train, evaluate and export a recipe's models on the shards that its data run left.

    Args:
        recipe: Which recipe to follow: tiny (a drawn world, minutes on two cores), smoke (a fraction of tiny), photos
            (your pictures), one_gpu (your data, one GPU), paper (the whole reproduction).
        version: Name of the result, and of the shards to train on where upstream names no others; the recipe's name
            when left empty.
        upstream: Which shards to train on: `latest`, a version, or a digest of shards (its first eight letters or
            more); those of the result's own name when left empty.
        evaluate_every: Measure each training while it goes on, at states that are at least so many steps apart; 0
            measures finished models alone.
        best: Metric of the state that is kept as the best, such as training.last_loss; the latest when left empty.
        dry_run: Only show which steps would run and what they would cost; nothing is done.
        force: Make everything again, also what stands.
        own: Trained models of yours to start from, for one_gpu and paper; instruction data, for photos too.
    """
    from pipelines.during import with_followers  # it imports torch, which serving the form can spare

    steps = steps_of(FlowName.TRAIN, recipe, version, own)
    if upstream:
        steps = reading(steps, Store(settings().store_root), upstream)
    steps = with_followers(steps, evaluate_every, best)
    return show(steps, force) if dry_run else run_steps(steps, force)
