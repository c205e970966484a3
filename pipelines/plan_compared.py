"""Forecasts of a recipe's trainings: kept before they run, and shown beside what came of those that stand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.storage import Store
from pipelines.clusters import Gpus
from pipelines.graph import Step
from stages.forecasts import Compared, compare, forecast_key, meters_key, mismatch, same
from stages.manifest import find
from stages.materialize import request_of

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget


def keep(found: "Sequence[Budget]", steps: Sequence[Step], store: Store, gpus: Gpus | None) -> list[str]:
    """Write the forecast of each training that nobody began beside its checkpoint to be; return a line for each.

    It says of which parameters it is and for how many processes of which kind. That of a run that has begun stays as
    it is: made after its first steps, it would know what it foretells.
    """
    specs, said = {step.artifact.removeprefix("checkpoints/"): step.spec for step in steps}, []
    for each in (each for each in found if each.step_seconds):
        spec = specs[each.training.stage]
        if find(store, spec.artifact) is not None or store.exists(meters_key(spec.artifact)):
            said.append(f"{spec.artifact} was trained already: its forecast is not made afterwards")
            continue
        ran = {"processes": each.gpus or spec.placement.get("workers", 1)}
        ran |= {"card": gpus.card.name if gpus and each.gpus else None}
        told = {**each.as_json(), **ran, "of": same(request_of(spec, store))}
        store.write(forecast_key(spec.artifact), json.dumps(told).encode())
        said.append(f"the forecast of {spec.artifact} is kept, to be held against its run")
    return said


@dataclass(frozen=True)
class Held:
    """Forecast and fact of the runs that have both, by their refs, and why those of others cannot be compared."""

    rows: dict[str, list[Compared]]
    said: tuple[str, ...] = ()


def compared(steps: Sequence[Step], store: Store) -> Held:
    """Return forecast and fact of each finished training that has both."""
    refs = [step.spec.artifact for step in steps if find(store, step.spec.artifact) is not None]
    both = [ref for ref in refs if store.exists(forecast_key(ref)) and store.exists(meters_key(ref))]
    apart = {ref: why for ref in both if (why := mismatch(ref, store))}
    return Held({str(ref): compare(ref, store) for ref in both if ref not in apart}, tuple(apart.values()))
