"""Where flight records lie, how they are read, and what it takes to compute one of a run's steps again."""

import importlib
import json
from functools import partial
from typing import Any

from infra.storage import Store
from stages.manifest import ManifestError, load
from stages.output import Output
from stages.ref import Ref
from stages.training.job import Job
from stages.workspace import Placement

STAGES = "stages."
"""Where a task's builder must come from: a file in the store names it, and code is not taken from files."""


def run_key(ref: Ref) -> str:
    """Return where it is told what a training run is made of."""
    return ref.key("training/run.json")


def told(job: Job) -> bytes:
    """Return what a training run is made of, so that one of its steps can be computed again."""
    # What a partial binds cannot be told in JSON; stages of ours bind nothing.
    build = job.build.func if isinstance(job.build, partial) else job.build
    said = {
        "stage": job.output.stage,
        "build": [build.__module__, build.__qualname__],
        "identity": job.output.identity,
        "inputs": [str(each.ref) for each in job.inputs.values()],
        "digest": job.digest,
    }
    return json.dumps(said, sort_keys=True, indent=1, default=str).encode()


def job_of(store: Store, ref: Ref, placement: Placement) -> Job:
    """Return a run as its watch told of it, placed as this process wants it.

    Raises:
        ManifestError: There is no such run, or what it was made from is gone.
    """
    try:
        said = json.loads(store.read(run_key(ref)))
    except FileNotFoundError as error:
        trained = sorted(
            {key.split("/")[1] for key in store.keys("checkpoints") if key.endswith("training/run.json")}
        )
        known = f"below checkpoints/ it is told for {', '.join(trained)}" if trained else "it is told for none"
        raise ManifestError(f"{ref} has no {run_key(ref)}: no training of this name ran here; {known}") from error
    module, name = said["build"]
    if not module.startswith(STAGES):
        raise ManifestError(f"{run_key(ref)} names {module}, which is no stage; it was changed after the run")
    parameters = importlib.import_module(module).Parameters.model_validate(said["identity"]["parameters"])
    inputs = {each.name: load(store, each) for each in map(Ref.model_validate, said["inputs"])}
    output = Output(store, ref, said["stage"], said["identity"])
    build = getattr(importlib.import_module(module), name)
    return Job(build, parameters, inputs, output, placement, said["digest"])


def flight_key(ref: Ref) -> str:
    """Return where a checkpoint's flight records lie, one JSON object a line, the oldest first."""
    return ref.key("training/flight.jsonl")


def run_of(output: Output) -> str:
    """Return what a run's records are known by among those of other runs under the same name."""
    return output.config_digest[:12]


def flight_records(store: Store, ref: Ref, run: str | None = None) -> list[dict[str, Any]]:
    """Return a checkpoint's flight records, of one run where it is named (`run_of`); none where nothing happened."""
    key = flight_key(ref)
    records = [json.loads(line) for line in store.read(key).splitlines()] if store.exists(key) else []
    return [record for record in records if run is None or record.get("run") == run]
