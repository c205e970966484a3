"""`internvl simulate`: long runs on paper, from measured figures or given ones, as a table and a page of curves."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console

if TYPE_CHECKING:
    from stages.download_price import Pace

Pool = Annotated[
    str | None,
    typer.Option("--pool", help="A finished download, such as pool/own@photos, whose measured pace is taken."),
]


MTBF_HOURS = 6_300.0
"""Of a machine of 8 GPUs: 419 unexpected interruptions in 54 days on 16,384 GPUs (arXiv:2407.21783, 3.3.4)."""


@app.command()
def simulate(
    pool: Pool = None,
    cpu_machines: Annotated[int, typer.Option("--cpu-machines", min=1, help="That download and filter.")] = 16,
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
        typer.Option("--step-seconds", min=0.001, help="Of the contrastive, then of the generative stage."),
    ] = None,
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
        from pipelines.simulation_input import Given, figures, simulated
        from stages.simulation import Cluster
        from stages.simulation_page import render

        if steps and len(steps) != 2:
            raise Refusal("--step-seconds is given twice: for the contrastive stage and for the generative one")
        if not page.absolute().parent.is_dir():
            raise Refusal(f"there is no folder {page.parent} for the page; make it, or name another --page")
        machine = Cluster(1, mtbf, restart, stragglers)
        given = Given(
            machine=machine, cpu_machines=cpu_machines, tasks=tasks, gpus_per_machine=gpus,
            checkpoint_seconds=checkpoint, dollars_per_gpu_hour=price, dollars_per_cpu_machine_hour=cpu_price,
            seeds=seeds,
        )  # fmt: skip
        pace = _pace(pool)
        given = replace(given, figures=figures(milliseconds, pace, tuple(steps) if steps else None))
        found = simulated(given)
        page.write_text(render(found), encoding="utf-8")
        if as_json:
            print(json.dumps({"page": str(page), "runs": [asdict(each) for each in found.runs]}, indent=2))
            return
        table = Table("run", "on", "without failures", "days, 5 %", "median", "95 %", "dollars", "states every")
        for column in table.columns[2:]:
            column.justify = "right"
        for each in found.runs:
            table.add_row(each.name, each.where, *each.cells())
        console.print(table)
        for line in found.notes:
            console.print(line, style="dim", highlight=False, markup=False)
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
