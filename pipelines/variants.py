"""The paper's hyper-parameter study as one Prefect flow: encoders of one size, trained alike and compared."""

from typing import Any

from prefect import flow

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step, everything_before
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.schedule import RUNNER, run_steps
from pipelines.steps import stop_jobs
from stages.manifest import find, load
from stages.materialize import StageSpec
from stages.ref import Ref

STUDY = "variants"
OWN_DATA = (RecipeName.TINY, RecipeName.SMOKE)
"""Recipes that draw their own data: what a study reads of them is made where it does not stand."""


def study_steps(
    shards: str, language: str, version: str, parameters: dict[str, Any], placement: dict[str, Any]
) -> list[Step]:
    """Return the step that makes a study, after those that make what it reads where that can be made.

    Args:
        shards: What all variants are trained on, name@version.
        language: What the text tower starts from, name@version; of the shards' version when left empty.
        version: Of the study and its trainings; the shards' when left empty.
        parameters: Fields of the study that differ from its defaults.
        placement: Where each training runs.

    Raises:
        ManifestError: Shards or language model do not stand.
        ValueError: A field cannot be.
    """
    from stages.variants import Parameters  # imports torch, which serving the flows can spare

    data = Ref.model_validate(shards)
    spoken = Ref.model_validate(language or f"checkpoints/language@{data.version}")
    given = Parameters.model_validate(parameters)
    given = given.model_copy(update={"training": given.training.model_copy(update={"shards": data.name})})
    given.variants()
    spec = StageSpec(
        stage="variants",
        artifact=Ref(name=STUDY, version=version or data.version),
        parameters=given.model_dump(mode="json"),
        inputs=(data, spoken),
        placement=placement,
    )
    return [*_before(data, spoken), Step("variants", spec)]


def _before(data: Ref, spoken: Ref) -> list[Step]:
    """Return the steps that make what is missing.

    Raises:
        ManifestError: Something is missing that no recipe can make alone.
    """
    store = Store(settings().store_root)
    missing = [ref for ref in (data, spoken) if find(store, ref) is None]
    recipe = next((each for each in OWN_DATA if each == data.version), None)
    steps = everything_before(steps_of(FlowName.INTERNVL, recipe), missing) if missing and recipe else []
    made = {step.spec.artifact for step in steps}
    for ref in missing:
        if ref not in made:
            load(store, ref)
    return steps


@flow(name="variants", flow_run_name="variants-{version}", task_runner=RUNNER, on_cancellation=[stop_jobs])
def compare_variants(
    shards: str = "shards/clean@tiny",
    language: str = "",
    version: str = "",
    parameters: dict[str, Any] | None = None,
    placement: dict[str, Any] | None = None,
    force: bool = False,
) -> list[str]:
    """Train variants of an encoder that have equally many parameters, and say which to take.

    Args:
        shards: What all variants are trained on, name@version.
        language: What the text tower starts from; the language model of the shards' version when left empty.
        version: Name of the study and its trainings; the shards' version when left empty.
        parameters: Fields of the study that differ from its defaults: budget, depths, head_dims, mlp_ratios ...
        placement: Where each training runs; workers, gpus_per_worker ...
        force: Compare again what stands; trainings that stand are taken as they are.
    """
    steps = study_steps(shards, language, version, parameters or {}, placement or {})
    made = run_steps(steps[:-1]) if steps[:-1] else []
    return [*made, *run_steps(steps[-1:], force)]
