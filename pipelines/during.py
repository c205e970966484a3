"""Measuring trainings while they go on: the steps that follow a recipe's trainings, and the command's."""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.storage import Store
from pipelines.choosing import NOTHING, choices
from pipelines.graph import Step
from pipelines.measuring import benchmark_spec
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import make
from pipelines.wanted import Wanted
from stages.aliases import FOLDER
from stages.errors import Missing
from stages.follow import Parameters, follow_ref
from stages.manifest import ManifestError
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.training.flight_records import run_key
from stages.training.snapshots import STEP

FOLLOWED = ("contrastive", "generative", "instruct")
"""Stages whose checkpoints recipes measure."""


def follow_spec(
    training: Ref,
    evaluations: Sequence[StageSpec],
    version: str = "",
    placement: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> StageSpec:
    """Return the stage that measures a training while it goes on.

    Args:
        training: The checkpoint that is trained.
        evaluations: What measures it when it is finished.
        version: Name of the result; the training's when left empty.
        placement: Where states are measured.
        chosen: More parameters of `stages.follow`.
    """
    inputs = {ref for each in evaluations for ref in each.inputs if ref != training}
    parameters = Parameters(training=training, evaluations=tuple(evaluations), **chosen)
    return StageSpec(
        stage="follow",
        artifact=follow_ref(training, version),
        parameters=parameters.model_dump(mode="json"),
        inputs=tuple(sorted(inputs, key=str)),
        placement=dict(placement or {}),
    )


def with_followers(steps: Sequence[Step], every: int, best: str = "") -> list[Step]:
    """Return a road on which each training that its steps measure is measured while it goes on, too.

    A follower stands right behind its training: of the steps that can run, that one starts first.

    Args:
        steps: The road.
        every: Fewest steps of training between two states that are measured; 0 adds nothing.
        best: Metric of the best state; the latest is kept when left empty.
    """
    if not every:
        return list(steps)
    road: list[Step] = []
    for step in steps:
        road.append(step)
        training = step.spec.artifact
        measuring = [each.spec for each in steps if each.spec.stage in ("evaluate", "benchmark")]
        own = [each for each in measuring if training in each.inputs]
        if step.spec.stage in FOLLOWED and own:
            spec = follow_spec(training, own, trained=step.spec.parameters, every=every, best=best or None)
            # It waits for what the training waits for; the training itself it waits for while it runs.
            inputs = tuple(dict.fromkeys([*step.spec.inputs, *spec.inputs]))
            spec = spec.model_copy(update={"inputs": inputs})
            road.append(Step(label=f"follow {training.name.partition('/')[2]}", spec=spec))
    return road


def refuse_unknown(training: Ref, store: Store) -> None:
    """Refuse to wait for a training that nothing tells of: its name is most likely misspelt.

    One that is of a recipe's own version may be waited for before it begins.

    Raises:
        Missing: Nothing was ever written of it.
    """
    if training.version in list(RecipeName) or store.exists(run_key(training)):
        return
    begun = [version for version in store.folders(training.name) if version != FOLDER and STEP not in version]
    if training.version not in begun:
        known = f"{training.name} has begun as {', '.join(begun)}" if begun else f"no {training.name} has"
        raise Missing(
            f"no training of {training} has begun in {store.root}, and {known}", training.name, training.version
        )


def followed(
    text: str, recipe: RecipeName | None, wanted: Wanted, version: str = "",
    placement: Mapping[str, Any] | None = None, **chosen: Any,
) -> tuple[StageSpec, dict[str, str]]:  # fmt: skip
    """Return the stage that follows a training by name, and the rows of data that cannot be measured.

    Args:
        text: The checkpoint that is trained, name@version.
        recipe: Whose evaluation steps are run on it; the one that the version is named after where left out.
        wanted: Benchmarks.
        version: Name of the result.
        placement: Where states are measured.
        chosen: More parameters of `stages.follow`.

    Raises:
        ManifestError: It is no checkpoint that is measured, or the data that are named do not fit it.
    """
    training = Ref.model_validate(text)
    kind = training.name.removeprefix("checkpoints/")
    if kind not in FOLLOWED or kind == training.name:
        raise ManifestError(
            f"{training} cannot be followed; what is measured while it is trained is "
            f"{', '.join(f'checkpoints/{each}' for each in FOLLOWED)}"
        )
    evaluations: list[StageSpec] = []
    if recipe is None and training.version in [str(each) for each in RecipeName]:
        recipe = RecipeName(training.version)
    if recipe is not None:
        road = steps_of(FlowName.TRAIN, recipe, training.version)
        evaluations = [step.spec for step in road if step.spec.stage == "evaluate" and training in step.spec.inputs]
    left_out: dict[str, str] = {}
    if wanted.data or wanted.at or wanted.names or wanted.own:
        usual = make(recipe).protocols if recipe is not None else NOTHING
        rows, left_out, _ = choices(kind, wanted, usual=usual)  # type: ignore[arg-type]  # one of FOLLOWED
        if rows:
            evaluations.append(benchmark_spec(training, rows))
    return follow_spec(training, evaluations, version, placement, **chosen), left_out
