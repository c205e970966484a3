"""From training shards to a chat model, as one Prefect flow."""

from prefect import flow

from pipelines.hooks import HOOKS
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps


@flow(name="train", flow_run_name="train-{recipe}", task_runner=RUNNER, **HOOKS)
def train_models(
    recipe: RecipeName = RecipeName.TINY, version: str = "", own: OwnData = NO_DATA, force: bool = False
) -> list[str]:
    """Train, evaluate and export a recipe's models on the shards that its data run left.

    Args:
        recipe: Which recipe to follow.
        version: Name of the shards to train on and of the result; the recipe's name when left empty.
        own: Trained models of yours to start from, for one_gpu and paper; instruction data, for photos too.
        force: Make everything again, also what stands.
    """
    return run_steps(steps_of(FlowName.TRAIN, recipe, version, own), force)
