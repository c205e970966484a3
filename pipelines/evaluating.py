"""The commands that measure checkpoints on benchmarks, and compare two that were measured."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import PlacementFile, Workers, made_aside, placed
from pipelines.following import bar, followed
from pipelines.names import RecipeName
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console, links, run_flow
from stages.manifest import Manifest, find, load
from stages.ref import Ref

if TYPE_CHECKING:
    from pipelines.wanted import Wanted
    from stages.evaluations.comparing import Comparison, Difference
    from stages.evaluations.views import Board


@app.command()
def evaluate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="name@version, such as checkpoints/contrastive@tiny.")
    ] = None,
    recipe: Annotated[
        RecipeName | None,
        typer.Option("--recipe", help="In place of a checkpoint: all of a recipe, by its own evaluation steps too."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder that holds the benchmarks' data, each under its name.")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", help="Only this one; may be given again. All whose data are found if left out."),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", help="NAME=PATH: data that lie elsewhere; may be given again.")
    ] = None,
    own: Annotated[
        list[Path] | None, typer.Option("--own", help="YAML that describes data of your own; may be given again.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Only so many examples of each, chosen by hash.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="PROTOCOL.FIELD=VALUE, as retrieval.queries=true; may be given again."),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(
            "--follow", help="A checkpoint that is being trained: measure its states until the training ends."
        ),
    ] = None,
    every: Annotated[int, typer.Option("--every", min=0, help="With --follow: fewest steps between two states.")] = 0,
    best: Annotated[
        str | None, typer.Option("--best", help="With --follow: metric by which the best state is kept.")
    ] = None,
    lower: Annotated[
        bool, typer.Option("--lower-is-better", help="With --best: the lowest is the best, as of a loss.")
    ] = False,
    version: Annotated[
        str, typer.Option("--version", help="Of a recipe: the version that is measured; its name when left out.")
    ] = "",
    new_version: Annotated[
        str, typer.Option("--new-version", help="Name of the result; the checkpoint's version when left out.")
    ] = "",
    placement: PlacementFile = None,
    workers: Workers = None,
) -> None:
    """Measure a checkpoint on the paper's benchmarks and your own data; print the table and where its page is."""
    with clear_errors():
        if (checkpoint is None) == (recipe is None and follow is None) or (checkpoint is not None and follow):
            raise Refusal(
                "name a checkpoint (internvl evaluate checkpoints/contrastive@tiny), or give --recipe tiny, or "
                "--follow checkpoints/contrastive@tiny"
            )
        if follow is None and (every or best or lower):
            raise Refusal("--every, --best and --lower-is-better belong to --follow: a finished checkpoint is one")
        from pipelines.measuring import of_checkpoint
        from pipelines.wanted import Wanted

        here, given = settings(), [str(each) for each in own or ()]
        store = Store(here.store_root)
        if follow is not None:
            wanted = Wanted.of(str(data or ""), benchmark or (), at or (), given, limit, change or ())
            chosen = {"every": every, "best": best, "best_is": "lower" if lower else "higher"}
            _follow(store, follow, recipe, wanted, new_version, placed(placement, workers), chosen)
            return
        if checkpoint is None:
            found = _recipe(recipe, str(data or ""), benchmark or (), at or (), given, limit, change or (), version)
            for each in found:
                tell(store, each)
            return
        wanted = Wanted.of(str(data or ""), benchmark or (), at or (), given, limit, change or ())
        with bar("reading data") as told:
            planned = of_checkpoint(store, checkpoint, wanted, new_version, placed(placement, workers), told)
        _left_out(planned.left_out)
        (step,) = planned.steps
        with followed(store, step.spec.artifact):
            made = made_aside(step.spec, store)
        tell(store, made)


def _follow(
    store: Store, training: str, recipe: RecipeName | None, wanted: "Wanted", version: str,
    placement: Mapping[str, Any], chosen: Mapping[str, Any],
) -> None:  # fmt: skip
    from pipelines.during import followed as following
    from pipelines.during import refuse_unknown

    spec, left_out = following(training, recipe, wanted, version, placement, **chosen)
    refuse_unknown(Ref.model_validate(training), store)
    _left_out(left_out)
    with followed(store, spec.artifact):
        made = made_aside(spec, store)
    console.print(made.totals["markdown"].partition("\n")[0], highlight=False, markup=False, soft_wrap=True)
    tell(store, made)


def _recipe(
    recipe: RecipeName | None, data: str, names: Sequence[str], at: Sequence[str], own: Sequence[str],
    limit: int | None, changes: Sequence[str], version: str,
) -> list[Manifest]:  # fmt: skip
    from pipelines.measuring import nothing_found, of_recipe
    from pipelines.summary import summary
    from pipelines.wanted import Wanted

    here = settings()
    store = Store(here.store_root)
    name = recipe or RecipeName.TINY
    wanted = Wanted.of(data, names, at, own, limit, changes)
    with bar("reading data") as told:
        planned = of_recipe(name, wanted, version, told)
    _left_out(planned.left_out)
    measured = any(step.spec.stage == "benchmark" for step in planned.steps)

    def begin() -> list[str]:
        from pipelines.evaluate import evaluate as flow

        return flow(
            recipe=name, data=data, benchmarks=tuple(names), at=tuple(at), own=tuple(own), limit=limit,
            changes=tuple(changes), version=version,
        )  # fmt: skip

    made, seconds, _ = run_flow(here, begin)
    summary(console, store, made, seconds)
    if not measured:
        console.print(escape(str(nothing_found("generative", wanted))), highlight=False, soft_wrap=True)
    links(here)
    found = [find(store, Ref.model_validate(ref)) for ref in made]
    return [each for each in found if each is not None]


def _left_out(rows: Mapping[str, str]) -> None:
    for name, why in rows.items():
        console.print(f"left out  {name}: {why}", highlight=False, markup=False, soft_wrap=True)


def tell(store: Store, made: Manifest) -> None:
    """Print the table of an evaluation, and where its page is."""
    page = made.reports.get("page")
    if made.stage == "benchmark":
        from stages.benchmark import read_board
        from stages.evaluations.views import departed

        (name,) = made.identity["inputs"]
        board, _ = read_board(store, load(store, _measured(store, made, name)), made)
        console.print(_table(str(made.ref), board))
        for each in departed(board):
            said = f"not the paper's settings, so no difference is told: {each}"
            console.print(said, highlight=False, markup=False, soft_wrap=True)
        for sentence, names in _grouped(board).items():
            style = "dim" if sentence.startswith("not checked") else ""
            said = f"{', '.join(names)}: {sentence}"
            console.print(said, style=style, highlight=False, markup=False, soft_wrap=True)
    if page is not None:
        console.print(f"{made.ref}  {store.path(made.key(page))}", highlight=False, soft_wrap=True)
        console.print(f"served at {settings().report_url}/{made.key(page)} while the services are up", style="dim")


def _grouped(board: "Board") -> dict[str, list[str]]:
    """Return what is known of leaks, and of which benchmarks."""
    found: dict[str, list[str]] = {}
    for each in board.leaks:
        found.setdefault(each.said, []).append(each.benchmark)
    return found


def _measured(store: Store, made: Manifest, name: str) -> Ref:
    from stages.manifest import find_digest

    found = find_digest(store, name, made.identity["inputs"][name], made.ref.version)
    if found is None:
        raise Refusal(f"{made.ref} measured a {name} that is gone or was made anew; measure it again")
    return found.ref


def _table(title: str, board: "Board") -> Table:
    from stages.evaluations.views import interval, paper, said, signed

    table = Table(title=f"{title}: {board.measured} of {board.rows} rows measured", title_justify="left")
    for column in ("task", "benchmark", "language", "measure"):
        table.add_column(column, overflow="fold")
    for column in ("ours", "95 % interval", "chance", "paper", "difference"):
        table.add_column(column, justify="right")
    for line in board.lines:
        if line.ours is not None:
            unit = line.ours.unit
            table.add_row(
                line.task, f"{line.name.partition('.')[0]} {line.way}".strip(), line.language,
                line.metric.replace("_", " "),
                said(line.ours.value, unit), interval(line.ours), said(line.ours.chance, unit), paper(line),
                signed(line.difference, unit),
            )  # fmt: skip
    return table


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
    from stages.evaluations.views import said, signed

    low, high = each.low, each.high
    return [
        each.measure.replace("_", " "),
        said(each.first, each.unit),
        said(each.second, each.unit),
        signed(each.value, each.unit),
        "no mean over examples" if low is None else f"{signed(low, each.unit)} to {signed(high, each.unit)}",
        "–" if each.p is None else f"{each.p:.4f}",
        f"{each.n:,}",
    ]
