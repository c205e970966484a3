"""From training shards to a chat model, as one Prefect flow."""

from prefect import flow

from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from pipelines.schedule import RUNNER, run_steps
from pipelines.steps import stop_jobs


@flow(name="train", flow_run_name="train-{recipe}", task_runner=RUNNER, on_cancellation=[stop_jobs])
def train_models(
    recipe: RecipeName = RecipeName.TINY,
    version: str = "",
    own: OwnData = NO_DATA,
    force: bool = False,
    evaluate_every: int = 0,
    best: str = "",
) -> list[str]:
    """Train, evaluate and export a recipe's models on the shards that its data run left.

    Args:
        recipe: Which recipe to follow.
        version: Name of the shards to train on and of the result; the recipe's name when left empty.
        own: Trained models of yours to start from, for one_gpu and paper; instruction data, for photos too.
        force: Make everything again, also what stands.
        evaluate_every: Measure each training while it goes on, at states that are at least so many steps apart; 0
            measures finished models alone.
        best: Metric of the state that is kept as the best, such as training.last_loss; the latest when left empty.
    """
    from pipelines.during import with_followers  # it imports torch, which serving the form can spare

    return run_steps(with_followers(steps_of(FlowName.TRAIN, recipe, version, own), evaluate_every, best), force)
