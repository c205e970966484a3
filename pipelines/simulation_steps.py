"""What a step of the paper's large trainings takes on a cluster: as a plan says, or as somebody measured it."""

from collections.abc import Sequence

from infra.settings import settings
from infra.storage import Store
from pipelines.budget import budgets
from pipelines.clusters import Gpus, gpus_of
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import states_of, steps_of
from pipelines.simulation_input import Timed
from pipelines.training_price import training_prices
from stages.manifest import ManifestError

TRAININGS = ("contrastive", "generative")


def planned_steps(cluster: str, version: str, mfu: float | None) -> tuple[Timed, ...]:
    """Return what a plan on this cluster reckons with.

    Args:
        cluster: As people write it.
        version: Of the recipe; what was calibrated and what its finished runs' meters tell is gone by.
        mfu: Share of the cards' peak, instead of what is known.

    Raises:
        ManifestError: A training does not run on this cluster.
        ValueError: It names no cluster.
    """
    gpus, store = gpus_of(cluster), Store(settings().store_root)
    steps = steps_of(FlowName.TRAIN, RecipeName.PAPER, version)
    trained = [each for each in training_prices(steps) if each.stage in TRAININGS]
    found = []
    for each in budgets(steps, trained, states_of(steps, store), store, gpus, given=mfu):
        if not each.step_seconds or each.utilisation is None:
            raise ManifestError(f"the {each.training.stage} stage on {gpus}: {'; '.join(each.said)}")
        source = "; ".join([*each.said, f"{each.utilisation.share:.1%} of peak, {each.utilisation.source}"])
        count = _schedule(steps, each.training.stage)
        found.append(Timed(each.training.stage, count, each.gpus, _name(gpus), each.step_seconds, source))
    return tuple(found)


def given_steps(cluster: str, seconds: Sequence[float]) -> tuple[Timed, ...]:
    """Return the same with seconds that somebody measured, in the trainings' order.

    Raises:
        ValueError: It names no cluster.
    """
    gpus = gpus_of(cluster)
    steps = steps_of(FlowName.TRAIN, RecipeName.PAPER)
    return tuple(
        Timed(name, _schedule(steps, name), min(gpus.count, _workers(steps, name)), _name(gpus), each, "given")
        for name, each in zip(TRAININGS, seconds, strict=True)
    )


def _spec(steps: Sequence[Step], stage: str) -> Step:
    return next(step for step in steps if step.artifact == f"checkpoints/{stage}")


def _schedule(steps: Sequence[Step], stage: str) -> int:
    return int(_spec(steps, stage).spec.parameters["schedule"]["steps"])


def _workers(steps: Sequence[Step], stage: str) -> int:
    return int(_spec(steps, stage).spec.placement["workers"])


def _name(gpus: Gpus) -> str:
    return f"{gpus.card.name} of {gpus.card.gigabytes} GB"
