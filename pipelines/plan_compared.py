"""A forecast beside the run that it was of, and both held against each other afterwards."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from infra.storage import Store
from pipelines.graph import Step
from stages.aside import store_aside
from stages.manifest import ManifestError
from stages.ref import Ref
from stages.training.meters import meters_key

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget


def forecast_key(ref: Ref) -> str:
    """Return where the forecast of a checkpoint lies: aside, as clock values are no part of a result."""
    return ref.key("training/forecast.json")


@dataclass(frozen=True)
class Compared:
    """One quantity, as it was forecast and as it came."""

    what: str
    forecast: float
    fact: float

    @property
    def ratio(self) -> float:
        """Return forecast over fact."""
        return self.forecast / self.fact


def keep(found: "Sequence[Budget]", steps: Sequence[Step], store: Store) -> list[str]:
    """Write each trained stage's forecast beside its checkpoint to be; return their refs."""
    refs = {step.artifact.removeprefix("checkpoints/"): step.spec.artifact for step in steps}
    kept = [each for each in found if each.training.samples]
    for each in kept:
        store_aside(store, forecast_key(refs[each.training.stage]), json.dumps(each.as_json()).encode())
    return [str(refs[each.training.stage]) for each in kept]


def compare(ref: Ref, store: Store) -> list[Compared]:
    """Return what was forecast of a run beside what its meters say.

    Raises:
        ManifestError: There is no forecast of it, or nothing was measured.
    """
    forecast = _read(store, forecast_key(ref), f"{ref} has no forecast; make one with internvl plan --cluster --keep")
    lines = _lines(store, ref)
    rows = [
        ("seconds of a step", forecast["step_seconds"], median(line["seconds_per_step"] for line in lines)),
        ("peak memory, GB", _peak(forecast), max(line["peak_memory_bytes"] for line in lines) / 1e9),
    ]
    return [Compared(what, before, after) for what, before, after in rows if before and after]


def _peak(forecast: Mapping[str, Any]) -> float:
    own = forecast["memory"][:1]  # the placement's own way comes first
    return float(own[0]["total"]) / 1e9 if own else 0.0


def _lines(store: Store, ref: Ref) -> list[dict[str, Any]]:
    key = meters_key(ref)
    lines = [json.loads(line) for line in store.read(key).splitlines()] if store.exists(key) else []
    if not lines:
        raise ManifestError(f"nothing measured {ref}: it was not trained yet, or for fewer steps than meters look at")
    return lines


def _read(store: Store, key: str, otherwise: str) -> dict[str, Any]:
    if not store.exists(key):
        raise ManifestError(otherwise)
    found: dict[str, Any] = json.loads(store.read(key))
    return found
