"""What earlier runs of a version were given, so that a user's data and models need to be named only once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.storage import Store
from pipelines.graph import Step
from pipelines.names import Mixing
from stages.conversation_sources import OwnConversations
from stages.manifest import ManifestError, find, sealed, unsealed
from stages.materialize import Drift
from stages.ref import Ref

if TYPE_CHECKING:  # recipes import torch, which serving the flows can spare
    from pipelines.recipes.recipe import Recipe

Sources = list[dict[str, Any]]
"""Instruction data in the order in which it was named; evaluations read the first."""


def _key(version: str) -> str:
    return f"instruction_data/{version}.json"


def _system_key(version: str) -> str:
    return f"systems/{version}.json"


def _read(store: Store, key: str, field: str, again: str) -> Any:
    """Return what a file keeps, None where there is none.

    Args:
        store: Where it is kept.
        key: Of the file.
        field: Its only one.
        again: How a user names once more what it keeps.

    Raises:
        ManifestError: It is damaged.
    """
    if not store.exists(key):
        return None
    try:
        return unsealed(store.read(key))[field]
    except (ValueError, KeyError) as error:
        raise ManifestError(f"{key} cannot be read: {error}; remove it and name {again}") from error


def _kept(store: Store, version: str) -> Sources:
    found: Sources | None = _read(store, _key(version), "sources", "all instruction data again with --conversations")
    return found or []


def remember_system(steps: Sequence[Step], store: Store) -> None:
    """Keep which published system a version's chat model follows, before the first of its trainings starts."""
    followed = {step.spec.artifact.version: step.system for step in steps if step.spec.stage == "instruct"}
    for version, system in sorted(followed.items()):
        if system and system != remembered_system(version, store):
            store.write(_system_key(version), sealed({"system": system}))


def remembered_system(version: str, store: Store) -> str | None:
    """Return the published system that an earlier run of this version was told to follow, None where there is none.

    Raises:
        ManifestError: What was kept of it is damaged.
    """
    system: str | None = _read(store, _system_key(version), "system", "the system again with --system")
    return system


def remember_sources(steps: Sequence[Step], store: Store, force: bool = False) -> None:
    """Keep the instruction data of a version before the first of its steps starts: a stopped run has it whole.

    A rerun that makes some of it changes these alone.

    Args:
        steps: All that a run does.
        store: Where it is kept.
        force: Whether what stands is replaced.

    Raises:
        Drift: The version has a model that learned from other data.
    """
    specs = [step.spec for step in steps]
    made = {spec.artifact: spec.parameters["own"] for spec in specs if spec.stage == "conversations"}
    made = {ref: own for ref, own in made.items() if own}
    for version in sorted({ref.version for ref in made}):
        before = _kept(store, version)
        anew = {own["name"]: own for ref, own in made.items() if ref.version == version}
        now = [anew.get(own["name"], own) for own in before]
        for spec in specs:
            told = [ref for ref in spec.inputs if ref.name.startswith("conversations/")]
            if spec.stage != "instruct" or spec.artifact.version != version or not told or not set(told) <= set(made):
                continue
            now = [made[ref] for ref in told]
            if before and now != before and not force and find(store, spec.artifact):
                names = (", ".join(own["name"] for own in each) for each in (before, now))
                raise Drift(
                    "{} stands and learned from other instruction data: {} -> {}\nEither give the new result a name "
                    "of its own (--version NAME), or replace what stands (--force).".format(spec.artifact, *names)
                )
        if now != before:
            store.write(_key(version), sealed({"sources": now}))


def remembered_sources(recipe: Recipe, version: str, store: Store, mixing: Mixing) -> Recipe:
    """Return a recipe with the instruction data that an earlier run of this version was given, mixed as told now.

    Raises:
        ManifestError: Some stands, and which else belongs to it was not kept.
    """
    if kept := _kept(store, version):
        return recipe.told(tuple(OwnConversations.model_validate(own) for own in kept), mixing.value)
    for name in store.folders("conversations"):
        ref = Ref(name=f"conversations/{name}", version=version)
        if (manifest := find(store, ref)) and manifest.identity["parameters"].get("own"):
            raise ManifestError(
                f"{ref} stands, and what else {version} learns from was not kept; name all of its instruction data "
                "again with --conversations"
            )
    return recipe


_NAMED: dict[str, tuple[str, ...]] = {
    "list_urls": (),
    "download": (),
    "language": ("pretrained", "pretrained_shape", "pretrained_digest"),
    "contrastive": ("start_vision",),
}
"""What a user's files decide of a stage's parameters: all of them, or those named."""


def remembered(steps: Sequence[Step], store: Store) -> list[Step]:
    """Return steps with what a user's data run was given, read from what it left behind.

    Only listing and fetching name a user's files, and the language and contrastive stages a user's models; they need
    not be named again to go on.
    """

    def again(step: Step) -> Step:
        if step.spec.stage not in _NAMED or not (manifest := find(store, step.spec.artifact)):
            return step
        made, names = manifest.identity["parameters"], _NAMED[step.spec.stage]
        kept = {name: made[name] for name in names or made if name in made}
        parameters = {**step.spec.parameters, **kept} if names else kept
        return step.changed(parameters=parameters)

    return [again(step) for step in steps]
