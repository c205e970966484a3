"""Forecasts of a recipe's trainings: kept before they run, and shown beside what came of those that stand."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.storage import Store
from pipelines.graph import Step
from stages.aside import store_aside
from stages.forecasts import Compared, compare, forecast_key, meters_key
from stages.manifest import find

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget


def keep(found: "Sequence[Budget]", steps: Sequence[Step], store: Store) -> list[str]:
    """Write each forecast of a training that does not stand yet beside its checkpoint to be; return their refs."""
    refs = {step.artifact.removeprefix("checkpoints/"): step.spec.artifact for step in steps}
    kept = []
    for each in found:
        ref = refs[each.training.stage]
        if each.step_seconds and find(store, ref) is None:
            store_aside(store, forecast_key(ref), json.dumps(each.as_json()).encode())
            kept.append(str(ref))
    return kept


def compared(steps: Sequence[Step], store: Store) -> dict[str, list[Compared]]:
    """Return forecast and fact of each finished step that has both, by its ref."""
    refs = [step.spec.artifact for step in steps if find(store, step.spec.artifact) is not None]
    both = [ref for ref in refs if store.exists(forecast_key(ref)) and store.exists(meters_key(ref))]
    return {str(ref): compare(ref, store) for ref in both}
