"""Where and how wide the steps of recipes run here: a recipe's own placement, then what this installation says.

A recipe places its stages for the machine it was written for. Another cluster has other numbers of GPUs and other
memory, and a placement is no part of a result: so a file of the installation, `placement.yaml` in its state folder or
the one that `INTERNVL_PLACEMENT` names, holds what differs, by stage or by step. It is read when steps are put
together, so that the forms, the commands and a plan go by the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import fsspec
import yaml
from pydantic import TypeAdapter, ValidationError

from infra.settings import Settings
from pipelines.graph import Step
from stages.errors import ManifestError
from stages.materialize import STAGES
from stages.unreadable import reading
from stages.workspace import Placement


def check_placement(given: Mapping[str, Any], where: str) -> None:
    """Refuse what is no placement.

    Raises:
        ManifestError: A field is unknown, or a value has another type or is out of its range.
    """
    known = sorted(each.name for each in fields(Placement))
    if unknown := sorted(set(given) - set(known)):
        raise ManifestError(f"{where}: a placement has no {unknown[0]!r}; it has {', '.join(known)}")
    try:
        TypeAdapter(Placement).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ManifestError(f"{where}: {wrong}") from None
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None


def placements(here: Settings) -> dict[str, dict[str, Any]]:
    """Return what the installation's file says, by stage or step; nothing where there is no file.

    Raises:
        ManifestError: The file that is named cannot be read, or is no such file; the message says what is wrong.
    """
    path = here.placement_file
    if not here.placement and not Path(path).exists():
        return {}
    try:
        with reading(path), fsspec.open(path, "rb") as file:
            found = yaml.safe_load(file.read())
    except yaml.YAMLError as error:
        raise ManifestError(f"{path} is no YAML: {error}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise ManifestError(f"{path}: give fields by stage or step, such as `contrastive: {{workers: 8}}`")
    for name, given in found.items():
        if str(name).partition(" ")[0] not in STAGES:
            raise ManifestError(f"{path}: {name!r} is no stage; the stages are {', '.join(STAGES)}")
        check_placement(given, f"{path}: {name}")
    return {str(name): dict(given) for name, given in found.items()}


def place(steps: Sequence[Step], here: Settings) -> list[Step]:
    """Return steps as this installation places them: its file wins over the recipe, a step over its stage.

    Raises:
        ManifestError: The installation's file is wrong, or what it adds to a recipe's placement is.
    """
    told = placements(here)
    return [_placed(step, here, told) for step in steps]


def _placed(step: Step, here: Settings, told: Mapping[str, Mapping[str, Any]]) -> Step:
    stage, own = step.spec.stage, step.spec.placement
    if stage == "download":
        own = {"drift_patience_seconds": here.drift_patience_seconds, **own}
    named = {name: told[name] for name in dict.fromkeys((stage, step.label)) if name in told}
    for given in named.values():
        own = {**own, **given}
    if stage == "download" and here.egress_resource:
        # Whatever else they need, they run where there is a way out. As much as nothing of it, so that CPUs and not
        # this number bound how many run on a machine.
        own = {**own, "resources": {here.egress_resource: 0.001, **own.get("resources", {})}}
    if named:
        check_placement(own, f"{here.placement_file}: {step.label}, with what the recipe says")
    return step.changed(placement=own)


def placed_here(steps: Sequence[Step], here: Settings) -> list[str]:
    """Return a line about what the installation's file places of these steps; none where it places nothing."""
    told = placements(here)
    names = dict.fromkeys(name for step in steps for name in (step.spec.stage, step.label) if name in told)
    return [f"placed by {here.placement_file}: {', '.join(names)}"] if names else []
