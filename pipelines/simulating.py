"""`internvl simulate`: long runs on paper, from measured figures or given ones, as a table and a page of curves."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.sections import Section, show
from pipelines.terminal import Refusal, clear_errors, console

if TYPE_CHECKING:
    from stages.download_price import Pace

Pool = Annotated[
    str | None,
    typer.Option("--pool", help="A finished download, such as pool/own@photos, whose measured pace is taken."),
]

PAPERS = "640xA100"
"""The paper's own GPUs (appendix, training settings)."""
MTBF_HOURS = 6_300.0
"""Of a machine of 8 GPUs: 419 unexpected interruptions in 54 days on 16,384 GPUs (arXiv:2407.21783, 3.3.4)."""


@app.command()
def simulate(
    pool: Pool = None,
    cluster: Annotated[
        str, typer.Option("--cluster", help="GPUs of the trainings, such as 640xA100; a stage takes what it can use.")
    ] = PAPERS,
    mfu: Annotated[
        float | None,
        typer.Option("--mfu", min=0.001, max=1, help="Share of the cards' peak; as `internvl plan` when left out."),
    ] = None,
    version: Annotated[
        str, typer.Option("--version", help="Of the paper recipe: what its finished runs' meters say is gone by.")
    ] = "",
    cpu_machines: Annotated[int, typer.Option("--cpu-machines", min=1, help="That download.")] = 16,
    tasks: Annotated[int, typer.Option("--tasks", min=1, help="Parts at once on each of them.")] = 16,
    milliseconds: Annotated[
        float | None, typer.Option("--ms-per-row", min=0.001, help="A task's time for a row; --pool's when left out.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus-per-machine", min=1)] = 8,
    mtbf: Annotated[
        float, typer.Option("--mtbf-hours", min=0.01, help="Mean time between failures of one machine.")
    ] = MTBF_HOURS,
    restart: Annotated[float, typer.Option("--restart-seconds", min=0)] = 600.0,
    stragglers: Annotated[
        float, typer.Option("--stragglers", min=0, help="Spread of machines' logarithmic speeds.")
    ] = 0.02,
    checkpoint: Annotated[
        float, typer.Option("--checkpoint-seconds", min=0.01, help="In which a training writes its state and waits.")
    ] = 60.0,
    steps: Annotated[
        list[float] | None,
        typer.Option(
            "--step-seconds",
            min=0.001,
            help="Of the contrastive, then of the generative stage; the plan's when left out.",
        ),
    ] = None,
    store_rate: Annotated[
        float, typer.Option("--store-rate", min=0, help="GB a second that the store takes in; 0 is no limit.")
    ] = 0.0,
    price: Annotated[float, typer.Option("--price", min=0, help="Dollars of a GPU for an hour.")] = 2.0,
    cpu_price: Annotated[
        float, typer.Option("--cpu-price", min=0, help="Dollars of a CPU machine for an hour.")
    ] = 0.8,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Runs of each kind.")] = 100,
    page: Annotated[Path, typer.Option("--page", help="Where the page of curves is written.")] = Path(
        "simulation.html"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show how long and how dear the paper's data and both its large trainings would be, failures included."""
    with clear_errors():
        from pipelines.simulation_input import Given, row_time, simulated
        from pipelines.simulation_steps import given_steps, planned_steps
        from stages.simulation import Cluster
        from stages.simulation_page import render

        if steps and len(steps) != 2:
            raise Refusal("--step-seconds is given twice: for the contrastive stage and for the generative one")
        if not page.absolute().parent.is_dir():
            raise Refusal(f"--page {page}: there is no folder {page.parent}; make it first, or name another page")
        row = row_time(milliseconds, _pace(pool))
        found = simulated(
            Given(
                machine=Cluster(1, mtbf, restart, stragglers), cpu_machines=cpu_machines, tasks=tasks,
                gpus_per_machine=gpus, checkpoint_seconds=checkpoint, dollars_per_gpu_hour=price,
                dollars_per_cpu_machine_hour=cpu_price, seeds=seeds, row=row,
                trainings=given_steps(cluster, steps) if steps else planned_steps(cluster, version, mfu),
                store_bytes_per_second=1e9 * store_rate or math.inf,
            )
        )  # fmt: skip
        page.write_text(render(found), encoding="utf-8")
        if as_json:
            print(json.dumps({"page": str(page), "runs": [asdict(each) for each in found.runs]}, indent=2))
            return
        head = (
            "run",
            "on",
            "no failures",
            "days, 5 %",
            "median",
            "95 %",
            "dollars",
            "states every",
            "best of search",
        )
        rows = tuple((each.name, each.where, *each.cells()) for each in found.runs)
        show([Section("", head, rows, found.notes, words=2)])
        console.print(f"curves: {page}", highlight=False, markup=False)


def _pace(pool: str | None) -> "Pace | None":
    """Return the measured pace of a download.

    Raises:
        Refusal: Nobody measured it.
    """
    if pool is None:
        return None
    from pipelines.pricing import pace_of
    from stages.manifest import load
    from stages.ref import Ref

    store = Store(settings().store_root)
    found = pace_of(store, load(store, Ref.model_validate(pool)))
    if not found.urls:
        raise Refusal(f"nothing measured {pool} while it was made; give --ms-per-row instead")
    return found
