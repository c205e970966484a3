"""The steps of a hyper-parameter study: itself, and what it reads where that can be made."""

from collections.abc import Mapping
from typing import Any

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step, everything_before
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from stages.manifest import find, load
from stages.materialize import StageSpec
from stages.ref import Ref

STUDY = "variants"
OWN_DATA = (RecipeName.TINY, RecipeName.SMOKE)
"""Recipes that draw their own data: what a study reads of them is made where it does not stand."""


def merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with others in their place; of a group of fields that is given in part the rest stays."""
    found = dict(base)
    for name, value in given.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found


def study_steps(
    shards: str, language: str, version: str, parameters: dict[str, Any], placement: dict[str, Any]
) -> list[Step]:
    """Return the step that makes a study, after those that make what it reads where that can be made.

    Args:
        shards: What all variants are trained on, name@version.
        language: What the text tower starts from, name@version; of the shards' version when left empty.
        version: Of the study and its trainings; the shards' when left empty.
        parameters: Fields of the study that differ from its defaults, at any depth.
        placement: Where each training runs.

    Raises:
        ManifestError: Shards or language model do not stand.
        ValueError: A field cannot be.
    """
    from stages.variants import Parameters  # imports torch, which serving the flows can spare

    data = Ref.model_validate(shards)
    spoken = Ref.model_validate(language or f"checkpoints/language@{data.version}")
    given = Parameters.model_validate(merged(Parameters().model_dump(mode="json"), parameters))
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
