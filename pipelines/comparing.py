"""The command that compares two checkpoints which were measured on the same data."""

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import Manifest, load
from stages.ref import Ref

if TYPE_CHECKING:
    from stages.evaluations.comparing import Comparison, Difference


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="An evaluation or a checkpoint that has one, name@version.")],
    second: Annotated[str, typer.Argument(help="Another one, measured on the same data.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare two evaluated checkpoints on the examples that both saw; exit 1 where rows could not be compared."""
    with clear_errors():
        from stages.evaluations.comparing import compare as compared

        store = Store(settings().store_root)
        found = compared(store, _evaluation(store, first), _evaluation(store, second))
        if as_json:
            console.print_json(json.dumps(found.model_dump(mode="json")))
        else:
            _tell_difference(found)
        if found.refused:
            raise typer.Exit(1)


def _evaluation(store: Store, text: str) -> Manifest:
    """Return an evaluation, also by the name of what it measured."""
    ref = Ref.model_validate(text)
    if ref.name.startswith("checkpoints/"):
        from pipelines.measuring import benchmark_ref

        ref = benchmark_ref(load(store, ref).ref)
    made = load(store, ref)
    if made.stage != "benchmark":
        raise Refusal(f"{ref} was made by stage {made.stage} and is no evaluation on benchmarks")
    return made


def _tell_difference(found: "Comparison") -> None:
    console.print(f"first {found.first}, second {found.second}; the difference is second less first", highlight=False)
    for row, differences in groupby(found.differences, key=lambda each: each.row):
        table = Table("measure", title=row, title_justify="left")
        for column in ("first", "second", "difference", "95 % interval", "p", "n"):
            table.add_column(column, justify="right")
        for each in differences:
            table.add_row(*_cells(each))
        console.print(table)
    console.print(
        "p: how often random signs of the examples' differences lie as far from 0; n: examples that both saw",
        style="dim",
    )
    for row, why in found.refused.items():
        console.print(f"not compared  {row}: {why}", highlight=False, markup=False, soft_wrap=True)


def _cells(each: "Difference") -> list[str]:
    from stages.evaluations.wording import said, signed

    low, high = each.low, each.high
    return [
        each.measure.replace("_", " "),
        said(each.first, each.unit),
        said(each.second, each.unit),
        signed(each.value, each.unit),
        "not kept per example" if low is None else f"{signed(low, each.unit)} to {signed(high, each.unit)}",
        "–" if each.p is None else f"{each.p:.4f}",
        f"{each.n:,}",
    ]
