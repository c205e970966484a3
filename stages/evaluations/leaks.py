"""Whether a checkpoint was trained on pictures of a benchmark, as far as the score stage looked.

The score stage names for each sample the evaluation picture that it repeats (`eval_hit`: equal bytes, nearly equal
looks, or nearly equal embeddings). Which sets it knows is its parameter `evaluation_sets`; a set is a benchmark's
where it has its name or lies at its place.
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from stages.evaluations.choice import Choice
from stages.manifest import Manifest, find_digest
from stages.signal_columns import read_signals
from stages.workspace import read_table

HIT = "eval_hit"


class Leak(BaseModel):
    """What is known of one benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    checked: bool
    listed: int = 0
    """Samples of all that were scored that repeat a picture of it."""
    trained: int = 0
    """Those of them that are in the shards the checkpoint was trained from."""
    said: str
    """The same in a sentence, or why it was not checked."""


def _inputs(store: Store, manifest: Manifest) -> dict[str, Manifest]:
    inputs = manifest.identity.get("inputs", {}).items()
    found = {name: find_digest(store, name, digest, manifest.ref.version) for name, digest in inputs}
    return {name: each for name, each in found.items() if each is not None}


def training_shards(store: Store, checkpoint: Manifest) -> dict[str, Manifest]:
    """Return the shards of the data road that a checkpoint, or one that it was made from, was trained on."""
    found: dict[str, Manifest] = {}
    for name, manifest in _inputs(store, checkpoint).items():
        if name.startswith("shards/"):
            found[str(manifest.ref)] = manifest
        elif name.startswith(("checkpoints/", "conversations")):
            found |= training_shards(store, manifest)
    return found


def _signals(store: Store, shards: Manifest) -> dict[str, Manifest]:
    """Return the signals that shards were chosen by; shards cut or taken down again tell of those before them."""
    found: dict[str, Manifest] = {}
    for name, manifest in _inputs(store, shards).items():
        if name.startswith("signals/"):
            found[str(manifest.ref)] = manifest
        elif name.startswith("shards/"):
            found |= _signals(store, manifest)
    return found


def _sets(signals: Manifest) -> dict[str, str]:
    told = signals.identity["parameters"]
    own = {"evaluation": told["evaluation_folder"]} if told.get("evaluation_folder") else {}
    return {**own, **told.get("evaluation_sets", {})}


def set_of(choice: Choice, sets: Mapping[str, str]) -> str | None:
    """Return the name of the evaluation set that a benchmark is; None where it is none of them."""
    if choice.benchmark in sets:
        return choice.benchmark
    place = Path(choice.place).resolve()
    return next((name for name, path in sorted(sets.items()) if Path(path).resolve() == place), None)


class _Hits:
    """Per evaluation set how many samples repeat a picture of it: of all that were scored, and of the shards."""

    def __init__(self) -> None:
        self.sets: dict[str, str] = {}
        self.named: dict[str, str] = {}  # those of them that the parameter `evaluation_sets` names
        self._listed: dict[bytes, str] = {}
        self._trained: set[bytes] = set()
        self._read: set[str] = set()

    @property
    def known(self) -> bool:
        """Say whether any signals were found."""
        return bool(self._read)

    def add(self, store: Store, shards: Manifest) -> None:
        """Count the hits of all signals that some shards were chosen by, and those that lie in the shards."""
        for name, signals in _signals(store, shards).items():
            if name in self._read:
                continue
            self._read.add(name)
            self.sets |= _sets(signals)
            self.named |= signals.identity["parameters"].get("evaluation_sets", {})
            for part in signals.parts:
                if HIT in part.files:
                    uids, columns = read_signals(store, signals, part, [HIT])
                    self._listed |= _named(uids, columns[HIT])
        wanted = pa.array(sorted(self._listed), pa.binary(16))
        for part in shards.parts if len(wanted) else ():
            if "index" in part.files:
                uids = read_table(store, shards, part, "index", ["uid"])["uid"]
                self._trained.update(uids.filter(pc.is_in(uids, value_set=wanted)).to_pylist())

    def of(self, name: str) -> tuple[int, int]:
        """Return how many samples repeat a picture of a set, and how many of them were trained on."""
        inside = Counter(self._listed[uid] for uid in self._trained)
        return Counter(self._listed.values())[name], inside[name]


def _named(uids: pa.Array, names: Any) -> dict[bytes, str]:
    found = zip(uids.to_pylist(), names.to_pylist(), strict=True)
    return {uid: str(name).partition("/")[0] for uid, name in found if name is not None}


def leaks(store: Store, checkpoint: Manifest, choices: Mapping[str, Choice]) -> list[Leak]:
    """Return what is known of each benchmark of some rows, in the order of their names."""
    shards = training_shards(store, checkpoint)
    hits = _Hits()
    for manifest in shards.values():
        hits.add(store, manifest)
    by_name = {choice.benchmark: choice for _, choice in sorted(choices.items())}
    missing = {name: choice.place for name, choice in sorted(by_name.items()) if set_of(choice, hits.sets) is None}
    return [_leak(choice, shards, hits, missing) for _, choice in sorted(by_name.items())]


def _leak(choice: Choice, shards: Mapping[str, Manifest], hits: _Hits, missing: Mapping[str, str]) -> Leak:
    def unchecked(why: str) -> Leak:
        return Leak(benchmark=choice.benchmark, checked=False, said=f"not checked: {why}")

    if not shards:
        return unchecked("no shards of the data road that this checkpoint was trained on are in the store")
    if not hits.known:
        return unchecked("the signals that its shards were chosen by are not in the store any more")
    name = set_of(choice, hits.sets)
    if name is None:
        # One command for all that are missing; what the parameter names already would be lost by another value.
        sets = shlex.quote(f"evaluation_sets={json.dumps({**hits.named, **missing}, ensure_ascii=False)}")
        return unchecked(
            "not among the sets of the score stage; name all that are missing in its parameter evaluation_sets: "
            f"internvl rerun score --set {sets} --new-version NAME --after"
        )
    listed, trained = hits.of(name)
    said = f"{listed:,} of the samples scored repeat a picture of it, {trained:,} of them are in the training shards"
    return Leak(benchmark=choice.benchmark, checked=True, listed=listed, trained=trained, said=said)
