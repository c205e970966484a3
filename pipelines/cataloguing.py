"""The commands about checkpoints: which there are, which one a name means, and letting it mean another."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.names import FlowName, RecipeName, StageName
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.aliases import PROMOTED, promotions
from stages.catalogue import Checkpoint
from stages.manifest import find
from stages.ref import Ref

MOST_METRICS = 5

checkpoints_app = typer.Typer(help="List checkpoints, and promote one.")
app.add_typer(checkpoints_app, name="checkpoints")


@checkpoints_app.callback(invoke_without_command=True)
def checkpoints(
    context: typer.Context,
    stage: Annotated[StageName | None, typer.Option("--stage", help="Only what this stage trains.")] = None,
    recipe: Annotated[
        RecipeName | None,
        typer.Option("--recipe", help="Only what has this recipe's name, or was made with its parameters of today."),
    ] = None,
) -> None:
    """List all versions of all checkpoints, also those still training, with step, data and metrics."""
    if context.invoked_subcommand is not None:
        return
    with clear_errors():
        from stages.catalogue import checkpoints as catalogue

        store = Store(settings().store_root)
        found = [each for each in catalogue(store) if stage is None or each.ref.name == f"checkpoints/{stage}"]
        if recipe is not None:
            wanted = _parameters(recipe)
            found = [each for each in found if _is_of(each, recipe, wanted)]
        if not found:
            raise Refusal(f"no such checkpoint in {store.root}; train one: internvl run train --recipe tiny")
        console.print(_table(found))


@checkpoints_app.command()
def promote(
    ref: Annotated[str, typer.Argument(help="A finished checkpoint, name@version.")],
    name: Annotated[str, typer.Option("--name", help="What it is called from now on: name@NAME.")] = PROMOTED,
) -> None:
    """Let checkpoints/x@promoted (or another name) mean this version, wherever a reference is taken."""
    with clear_errors():
        from stages.catalogue import promote as point

        wanted = Ref.model_validate(ref)
        now = point(Store(settings().store_root), wanted, name)
        before = f", before {now.previous}" if now.previous else ""
        console.print(f"{wanted.name}@{now.alias} is {now.version} {now.digest[:16]}{before}", highlight=False)


@checkpoints_app.command()
def history(
    ref: Annotated[str, typer.Argument(help="A promoted name, as checkpoints/contrastive@promoted, or a version.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Of a version: show this one; may be given again.")
    ] = None,
) -> None:
    """Print what a promoted name has meant, or what was measured of a version while it was trained."""
    with clear_errors():
        alias, store = Ref.model_validate(ref), Store(settings().store_root)
        found = promotions(store, alias)
        for each in reversed(found):
            when = datetime.fromtimestamp(each.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
            console.print(f"{when}  {each.version}  {each.digest[:16]}", highlight=False)
        if not found:
            console.print(_measured(store, alias, metric or []))


def _measured(store: Store, ref: Ref, metrics: list[str]) -> Table:
    """Return what was measured while a checkpoint was trained, a row for each state."""
    from stages.follow_points import read_curve, shown

    points = read_curve(store, ref)
    if not points:
        raise Refusal(
            f"{ref} was never promoted, and nothing was measured while it was trained; do it: internvl checkpoints "
            f"promote {ref.name}@VERSION, or internvl evaluate --follow {ref}"
        )
    known = sorted({name for point in points for name in point.metrics})
    if unknown := [each for each in metrics if each not in known]:
        raise Refusal(f"{ref} has no metric {unknown[0]!r}; measured are {', '.join(known)}")
    names = metrics or shown(points, None)
    table = Table("step", "passed over", *names, "checkpoint", title=str(ref), title_justify="left")
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[:-1]:
        column.justify = "right"
    there = {each: find(store, each) is not None for each in {point.checkpoint for point in points}}
    for point in points:
        cells = [f"{point.metrics[name]:.4g}" if name in point.metrics else "–" for name in names]
        kept = str(point.checkpoint) if there[point.checkpoint] else "not kept"
        table.add_row(f"{point.step:,}", f"{point.passed_over:,}", *cells, escape(kept))
    return table


def _parameters(recipe: RecipeName) -> dict[str, dict[str, Any]]:
    """Return a recipe's parameters by artifact name."""
    from pipelines.plan import steps_of

    return {step.artifact: step.spec.parameters for step in steps_of(FlowName.INTERNVL, recipe)}


def _is_of(checkpoint: Checkpoint, recipe: RecipeName, wanted: dict[str, dict[str, Any]]) -> bool:
    same = checkpoint.recipe == wanted.get(checkpoint.ref.name)
    return checkpoint.ref.version == str(recipe) or (checkpoint.finished and same)


def _table(found: list[Checkpoint]) -> Table:
    table = Table("checkpoint", "step", "parameters", "bytes", "data", "metrics")
    table.columns[0].no_wrap = True  # a name is copied from here
    for column in table.columns[1:4]:
        column.justify = "right"
    for each in found:
        called = "".join(f"\n= @{alias}" for alias in each.aliases)
        if each.finished:
            size = f"{each.parameters:,}" if each.parameters is not None else ""
            cells = [size, f"{each.bytes:,}", "\n".join(each.data.values()), _metrics(each)]
        else:
            cells = ["", "", "", f"training; state of {_age(each.age_seconds or 0.0)} ago"]
        step = "" if each.step is None else f"{each.step:,}"
        table.add_row(*map(escape, (f"{each.ref}{called}", step, *cells)))
    return table


def _metrics(checkpoint: Checkpoint) -> str:
    numbers = [f"{name} {value:.4g}" for name, value in checkpoint.metrics.items() if isinstance(value, int | float)]
    rest = len(numbers) - MOST_METRICS
    more = [f"and {rest} more: internvl show {checkpoint.ref}"] if rest > 0 else []
    return "\n".join([*numbers[:MOST_METRICS], *more])


def _age(seconds: float) -> str:
    for unit, one in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= one:
            return f"{seconds / one:.1f} {unit}"
    return f"{seconds:.0f} s"
