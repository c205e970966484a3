"""What checkpoints there are: finished ones with what they were made from, and those that are still training."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.storage import Entry, Store
from stages import aliases
from stages.manifest import Manifest, ManifestError, find, finished, load
from stages.ref import Ref

NAME = "checkpoints"
_STATE = re.compile(r"(?P<folder>.+)/state/[^/]+/(?P<number>\d{6,})-step-(?P<step>\d{8,})/state\.json")
_ALIAS = re.compile(r"(?P<name>.+)/aliases/(?P<alias>[^/]+)/\d{6,}\.json")


@dataclass(frozen=True)
class Checkpoint:
    """One version: finished, or still training."""

    ref: Ref
    finished: bool
    step: int | None
    """Steps it was trained, or steps in its newest state; None where nothing says."""
    parameters: int | None = None
    bytes: int = 0
    data: dict[str, str] = field(default_factory=dict)
    """Input by name: its version and the beginning of its digest."""
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    """The stage's parameters."""
    age_seconds: float | None = None
    """Of a training's newest state, never below zero."""
    aliases: tuple[str, ...] = ()


def checkpoints(store: Store) -> list[Checkpoint]:
    """Return all versions of all checkpoints, sorted by name and version."""
    there = {entry.key: entry for entry in store.entries(NAME) if not entry.upload}
    names = _aliases(store, there)
    rows = {manifest.ref: _finished(manifest, names.get(manifest.ref, ())) for manifest in _manifests(store, there)}
    for ref, row in _training(store, there).items():
        rows.setdefault(ref, row)
    return [rows[ref] for ref in sorted(rows, key=str)]


def promote(store: Store, ref: Ref, alias: str) -> aliases.Promotion:
    """Let an alias mean a finished checkpoint, from now on.

    Raises:
        ManifestError: It is no finished checkpoint, or a version has the alias's name.
    """
    if not ref.name.startswith(f"{NAME}/"):
        raise ManifestError(
            f"{ref} is no checkpoint; what can be promoted lies below {NAME}/: `internvl checkpoints`"
        )
    manifest, target = load(store, ref), Ref(name=ref.name, version=alias)
    if find(store, target) is not None:
        raise ManifestError(f"a version is called {target} already; choose another --name")
    return aliases.promote(store, target, manifest.ref.version, manifest.digest)


def _manifests(store: Store, there: dict[str, Entry]) -> Iterator[Manifest]:
    for ref in finished(there):
        if (manifest := find(store, ref)) is not None:
            yield manifest


def _finished(manifest: Manifest, names: tuple[str, ...]) -> Checkpoint:
    facts = manifest.parts[0].facts if manifest.parts else {}
    metrics = {name: value for name, value in facts.get("metrics", {}).items() if name != "steps"}
    refs = {name: each["ref"] for name, each in facts.get("inputs", {}).items()}
    digests: dict[str, str] = manifest.identity.get("inputs", {})
    return Checkpoint(
        ref=manifest.ref,
        finished=True,
        step=facts.get("metrics", {}).get("steps"),
        parameters=facts.get("parameters"),
        bytes=sum(file.bytes for file in manifest.files()),
        data={name: f"{refs.get(name, name)} {digest[:12]}" for name, digest in digests.items()},
        metrics=metrics,
        recipe=manifest.identity.get("parameters", {}),
        aliases=names,
    )


def _training(store: Store, there: dict[str, Entry]) -> dict[Ref, Checkpoint]:
    """Return what has begun, by its newest state: the one with the highest number, whatever the clock says."""
    newest: dict[Ref, tuple[int, int, str]] = {}
    for key in there:
        if match := _STATE.fullmatch(key):
            name, _, version = match["folder"].rpartition("/")
            ref, state = Ref(name=name, version=version), (int(match["number"]), int(match["step"]), key)
            newest[ref] = max(newest.get(ref, state), state)
    now = store.now()
    return {
        ref: Checkpoint(ref, finished=False, step=step, age_seconds=max(0.0, now - there[key].modified))
        for ref, (_, step, key) in newest.items()
    }


def _aliases(store: Store, there: dict[str, Entry]) -> dict[Ref, tuple[str, ...]]:
    found: dict[Ref, tuple[str, ...]] = {}
    named = {(match["name"], match["alias"]) for key in there if (match := _ALIAS.fullmatch(key))}
    for name, alias in sorted(named):
        now = aliases.promoted(store, Ref(name=name, version=alias))
        if now is not None:
            target = Ref(name=name, version=now.version)
            found[target] = (*found.get(target, ()), alias)
    return found
