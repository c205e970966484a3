"""The command that measures checkpoints on benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import PlacementFile, Workers, made_aside, placed
from pipelines.evaluation_table import tell
from pipelines.following import bar, followed
from pipelines.names import RecipeName
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console, links, run_flow
from stages.manifest import Manifest, find
from stages.ref import Ref

if TYPE_CHECKING:
    from pipelines.measuring import Planned
    from pipelines.wanted import Wanted


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
        list[Path] | None,
        typer.Option("--own", help="YAML that describes data of your own, or a folder of such; may be given again."),
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
    force: Annotated[bool, typer.Option("--force", help="Measure again, also what stands.")] = False,
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

        store, given = Store(settings().store_root), [str(each) for each in own or ()]
        asked = (str(data or ""), benchmark or (), at or (), given, limit, change or ())
        if follow is not None:
            wanted = Wanted.of(*asked)
            chosen = {"every": every, "best": best, "best_is": "lower" if lower else "higher"}
            _follow(store, follow, recipe, wanted, new_version, placed(placement, workers), force, chosen)
            return
        if checkpoint is None:
            found = _recipe(recipe, *asked, version, force)
            for each in found:
                tell(store, each)
            return
        wanted = Wanted.of(*asked)
        with bar("reading data") as told:
            planned = of_checkpoint(store, checkpoint, wanted, new_version, placed(placement, workers), told)
        _before(store, planned)
        (step,) = planned.steps
        with followed(store, step.spec.artifact):
            made = made_aside(step.spec, store, force)
        tell(store, made)


def _follow(
    store: Store, training: str, recipe: RecipeName | None, wanted: "Wanted", version: str,
    placement: Mapping[str, Any], force: bool, chosen: Mapping[str, Any],
) -> None:  # fmt: skip
    from pipelines.during import followed as following
    from pipelines.during import refuse_unknown

    spec, left_out = following(training, recipe, wanted, version, placement, **chosen)
    refuse_unknown(Ref.model_validate(training), store)
    _left_out(left_out)
    with followed(store, spec.artifact):
        made = made_aside(spec, store, force)
    console.print(made.totals["markdown"].partition("\n")[0], highlight=False, markup=False, soft_wrap=True)
    tell(store, made)


def _recipe(
    recipe: RecipeName | None, data: str, names: Sequence[str], at: Sequence[str], own: Sequence[str],
    limit: int | None, changes: Sequence[str], version: str, force: bool,
) -> list[Manifest]:  # fmt: skip
    from pipelines.choosing import nothing_found
    from pipelines.measuring import of_recipe
    from pipelines.summary import summary
    from pipelines.wanted import Wanted

    here = settings()
    store = Store(here.store_root)
    name = recipe or RecipeName.TINY
    wanted = Wanted.of(data, names, at, own, limit, changes)
    with bar("reading data") as told:
        planned = of_recipe(name, wanted, version, told)
    _before(store, planned)
    measured = any(step.spec.stage == "benchmark" for step in planned.steps)

    def begin() -> list[str]:
        from pipelines.evaluate import evaluate as flow

        return flow(
            recipe=name, data=data, benchmarks=tuple(names), at=tuple(at), own=tuple(own), limit=limit,
            changes=tuple(changes), version=version, force=force,
        )  # fmt: skip

    made, seconds, _ = run_flow(here, begin)
    summary(console, store, made, seconds)
    if not measured:
        console.print(escape(str(nothing_found("generative", wanted))), highlight=False, soft_wrap=True)
    links(here)
    found = [find(store, Ref.model_validate(ref)) for ref in made]
    return [each for each in found if each is not None]


def _before(store: Store, planned: "Planned") -> None:
    """Say what is not measured, and what the rest costs."""
    from pipelines.evaluation_price import told

    _left_out(planned.left_out)
    for sentence in told(store, planned.steps, planned.sizes):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _left_out(rows: Mapping[str, str]) -> None:
    for name, why in rows.items():
        console.print(f"left out  {name}: {why}", highlight=False, markup=False, soft_wrap=True)
