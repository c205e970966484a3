"""What the commands have in common that run one stage on checkpoints of the user's choice."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.cluster import Cluster, InlineCluster, RayCluster
from infra.storage import Store
from pipelines.placing import check_placement
from pipelines.terminal import Refusal
from stages.manifest import Manifest
from stages.materialize import Drift, StageSpec, materialize
from stages.unreadable import reading
from stages.workspace import Placement

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes, 1 when left out; no part of the result.")
]
ParametersFile = Annotated[
    Path | None, typer.Option("--parameters", help="JSON of the stage's parameters; see the how-to page.")
]
PlacementFile = Annotated[
    Path | None,
    typer.Option(
        "--placement", help="JSON of where and how wide it runs, such as max_packed_tokens; no part of the result."
    ),
]


def given_in(file: Path | None, what: str = "parameters") -> dict[str, Any]:
    """Return the fields of a JSON file; none without a file.

    Raises:
        ManifestError: It cannot be read, or is no JSON.
        Refusal: It holds something else than an object.
    """
    if file is None:
        return {}
    with reading(str(file)):
        found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise Refusal(f"{file} holds a {type(found).__name__}; {what} are a JSON object")
    return found


def placed(file: Path | None, workers: int | None) -> dict[str, Any]:
    """Return the placement of a JSON file, on as many processes as are asked for.

    Raises:
        Refusal: The file and the command line name different numbers of processes.
        ManifestError: A field is unknown, or a value has another type or is out of its range.
    """
    given = given_in(file, "fields of a placement")
    if workers is not None and given.get("workers", workers) != workers:
        raise Refusal(f"{file} says workers {given['workers']}, and --workers {workers}; leave one of them out")
    found = given if workers is None else {**given, "workers": workers}
    check_placement(found, str(file or "--workers"))
    return found


def made_aside(spec: StageSpec, store: Store, force: bool | None = None) -> Manifest:
    """Run one stage where its placement says, or find it done.

    Args:
        spec: What to make.
        store: Where.
        force: Make it again although it stands; None of a command that replaces nothing.

    Raises:
        Refusal: The version stands and was made differently.
    """
    placement = Placement(**spec.placement)
    # One process without a GPU to reserve needs no services.
    alone = placement.workers == 1 and not placement.gpus_per_worker
    cluster: Cluster = InlineCluster() if alone else RayCluster()
    try:
        return materialize(spec, store, cluster, force=bool(force))
    except Drift as drift:
        facts = str(drift).rpartition("\n")[0]
        replace = "" if force is None else ", or replace it with --force"
        raise Refusal(f"{facts}\nchoose another --new-version{replace}") from None
