"""How thresholds that somebody chose are applied: the command, from where what was judged was made."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.storage import Store
from stages.manifest import Manifest, find, find_digest
from stages.ref import Ref

RECIPES = ("tiny", "smoke", "photos", "one_gpu", "paper")


@dataclass(frozen=True)
class Applying:
    """What a rerun starts from, and what it has to be told to judge as these verdicts do."""

    recipe: str
    version: str
    """Of the signals: verdicts by moved thresholds have a version that no signals have."""
    standing: tuple[str, ...] = ()
    """`policy.rule.field=value` of all that differs from the verdicts of that version already."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    def command(self, source: str, changes: Iterable[str], new_version: str) -> str:
        """Return the command that judges a source as now, but for changes, under a version of its own."""
        words = ["internvl", "rerun", "filter", "--recipe", self.recipe]
        words += ["--version", self.version] if self.version != self.recipe else []
        words += ["--source", source]
        words += [word for change in self.with_changes(changes) for word in ("--set", change)]
        return shlex.join([*words, "--new-version", new_version])

    def with_changes(self, changes: Iterable[str]) -> list[str]:
        """Return what stands and what changes; a change takes the place of what stands of the same path."""
        wanted = [f"policy.{change.removeprefix('policy.')}" for change in changes]
        paths = {change.partition("=")[0] for change in wanted}
        return [each for each in self.standing if each.partition("=")[0] not in paths] + wanted


def applying_of(store: Store, ref: Ref, identity: Mapping[str, Any]) -> Applying | None:
    """Return how changes to some verdicts are applied; None where a rerun could not start from what they judged.

    Args:
        store: Where they are.
        ref: The verdicts.
        identity: What they are made from, as their manifest says.
    """
    source, inputs = identity["parameters"]["source"], identity["inputs"]
    found = {
        name.rpartition("/")[0]: find_digest(store, name, digest, ref.version)
        for name, digest in inputs.items()
        if name.endswith(f"/{source}")
    }
    signals, pool, cleaned = found.get("signals"), found.get("pool"), found.get("verdicts/clean")
    if signals is None or pool is None or pool.ref.version != signals.ref.version:
        return None
    base = signals.ref.version
    judged = [(ref, identity)] + ([(cleaned.ref, cleaned.identity)] if cleaned else [])
    standing = [
        change
        for verdicts, made in judged
        if verdicts.version != base
        for change in _differing(made, find(store, Ref(name=verdicts.name, version=base)))
    ]
    return Applying(_recipe(base, source), base, tuple(dict.fromkeys(standing)))


def _recipe(version: str, source: str) -> str:
    named = (recipe for recipe in RECIPES if version == recipe or version.startswith(f"{recipe}-"))
    return next(named, "photos" if source == "own" else "tiny")


def _rules(identity: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["kind"]: rule for rule in identity["parameters"]["policy"]["filters"]}


def _differing(identity: Mapping[str, Any], base: Manifest | None) -> Sequence[str]:
    """Return the fields of rules that differ from the base; all where there is no base to compare with."""
    theirs = _rules(base.identity) if base else {}
    return [
        f"policy.{kind}.{field}={json.dumps(value, separators=(',', ':'))}"
        for kind, rule in _rules(identity).items()
        if base is None or kind in theirs
        for field, value in rule.items()
        if field != "kind" and (base is None or theirs[kind].get(field) != value)
    ]
