"""Where flight records lie, how they are read, and what it takes to compute one of a run's steps again."""

import json
from typing import Any

from infra.storage import Store
from stages.ref import Ref
from stages.training.job import Job


def run_key(ref: Ref) -> str:
    """Return where it is told what a training run is made of."""
    return ref.key("training/run.json")


def told(job: Job) -> bytes:
    """Return what a training run is made of, so that one of its steps can be computed again."""
    said = {
        "stage": job.output.stage,
        "build": [job.build.__module__, job.build.__qualname__],
        "identity": job.output.identity,
        "inputs": [str(each.ref) for each in job.inputs.values()],
        "digest": job.digest,
    }
    return json.dumps(said, sort_keys=True, indent=1, default=str).encode()


def flight_key(ref: Ref) -> str:
    """Return where a checkpoint's flight records lie, one JSON object a line, the oldest first."""
    return ref.key("training/flight.jsonl")


def flight_records(store: Store, ref: Ref) -> list[dict[str, Any]]:
    """Return a checkpoint's flight records; none where nothing happened."""
    key = flight_key(ref)
    return [json.loads(line) for line in store.read(key).splitlines()] if store.exists(key) else []
