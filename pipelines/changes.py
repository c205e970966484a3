"""What `rerun` runs: one stage, for some sources, with some parameters changed, and what follows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step, everything_after, with_version
from pipelines.later_pass import chain_of, later_pass
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.upstream import names_read, version_of
from stages.materialize import StageSpec, module_of


def rerun_steps(
    stage: str,
    recipe: RecipeName,
    sources: Sequence[str],
    changes: Sequence[str],
    version: str = "",
    new_version: str = "",
    and_everything_after: bool = False,
    retry: Sequence[str] = (),
) -> list[Step]:
    """Return the steps that a rerun runs.

    Raises:
        ValueError: The recipe has no such stage or source, a change fits nothing, or there is nothing to retry.
        ManifestError: There is no such version.
    """
    if version:
        version = version_of(Store(settings().store_root), names_read(recipe, stage, sources), version)
    steps = steps_of(FlowName.INTERNVL, recipe, version)
    steps, wanted = select(steps, stage, sources, parse(changes))
    if retry:
        if stage != "download":
            raise ValueError(f"only downloads are passed over again, not {stage}: internvl rerun download --retry")
        store, given = Store(settings().store_root), version or str(recipe)
        if (base := chain_of(store, wanted[0].artifact, given)) != given:
            # What a later pass is made from has the version of the first one.
            steps, wanted = select(steps_of(FlowName.INTERNVL, recipe, base), stage, sources, parse(changes))
        return later_pass(steps, wanted, retry, store, given, new_version, and_everything_after)
    if and_everything_after:
        wanted = everything_after(steps, wanted)
    return with_version(steps, wanted, new_version) if new_version else wanted


def made_anew(force: bool, changes: Sequence[str], new_version: str, retry: Sequence[str]) -> bool:
    """Say whether a rerun replaces what stands: by force, and where it asks for nothing else than the same again."""
    return force or not (changes or new_version or retry)


def select(
    steps: Sequence[Step], stage: str, sources: Sequence[str], changes: dict[str, Any]
) -> tuple[list[Step], list[Step]]:
    """Return all steps with the changes in them, and those of the stage that are to be run.

    With changes these are the steps that a change touches, and those of the same stage made from them.

    Raises:
        ValueError: Nothing of that name, or a change names no parameter; the message says what there is.
    """
    of_stage = [step for step in steps if step.spec.stage == stage]
    chosen = [step for step in of_stage if not sources or step.artifact.rpartition("/")[2] in sources]
    if not of_stage:
        known = ", ".join(dict.fromkeys(step.spec.stage for step in steps))
        raise ValueError(f"this recipe has no stage {stage!r}; its stages are {known}")
    known = ", ".join(dict.fromkeys(step.artifact.rpartition("/")[2] for step in of_stage))
    if unknown := sorted(set(sources) - {step.artifact.rpartition("/")[2] for step in of_stage}):
        raise ValueError(f"stage {stage} has no {', '.join(map(repr, unknown))} in this recipe; it has {known}")
    if not changes:
        return list(steps), chosen
    changed, unused = dict[str, Step](), set(changes)
    for step in chosen:
        spec, used = change(step.spec, changes)
        unused -= used
        if used:
            changed[step.artifact] = replace(step, spec=spec)
    if unused:
        some = chosen[0].spec
        raise ValueError(
            f"stage {stage} has no parameter {', '.join(sorted(unused))}; for {some.artifact} there are "
            + ", ".join(paths(some.parameters))
        )
    steps = [changed.get(step.artifact, step) for step in steps]
    after = everything_after(steps, list(changed.values()))
    names = {step.artifact for step in chosen}
    return steps, [step for step in after if step.artifact in names]


def parse(changes: Sequence[str]) -> dict[str, Any]:
    """Return path and value of each `path=value`; a value is JSON where it is, else text.

    Raises:
        ValueError: There is no `=`.
    """
    found = {}
    for text in changes:
        path, separator, value = text.partition("=")
        if not separator or not path.strip():
            raise ValueError(f"{text!r} is not a change; write it as path=value, such as schedule.steps=300")
        try:
            found[path.strip()] = json.loads(value)
        except ValueError:
            found[path.strip()] = value
    return found


def _within(parameters: Any, name: str) -> Any:
    """Return what a name means here: a rule of a policy by its kind, or a field."""
    if not isinstance(parameters, dict):
        return None
    for rule in parameters.get("filters") or ():
        if isinstance(rule, dict) and rule.get("kind") == name:
            return rule
    return parameters.get(name)


def change(spec: StageSpec, changes: dict[str, Any]) -> tuple[StageSpec, set[str]]:
    """Return a spec with parameters changed by dotted path, and the paths that named one."""
    parameters: dict[str, Any] = spec.model_copy(deep=True).parameters
    used = set()
    for path, value in changes.items():
        *way, last = path.split(".")
        at: Any = parameters
        for name in way:
            at = _within(at, name)
        if isinstance(at, dict) and last in at:
            at[last] = value
            used.add(path)
    if used:
        _check(spec, parameters)
    return spec.model_copy(update={"parameters": parameters}), used


def _check(spec: StageSpec, parameters: dict[str, Any]) -> None:
    try:
        module_of(spec.stage).Parameters.model_validate(parameters)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(f"{spec.artifact} cannot be made so: {wrong}") from None


def paths(parameters: Any, prefix: str = "") -> list[str]:
    """Return the dotted paths of all parameters that can be changed."""
    if isinstance(parameters, dict):
        rules = parameters.get("filters")
        inner = [(k, v) for k, v in parameters.items() if k not in ("filters", "kind")]
        inner += [(rule["kind"], rule) for rule in rules or () if isinstance(rule, dict)]
        return [path for name, value in inner for path in paths(value, f"{prefix}.{name}" if prefix else name)]
    return [prefix]
