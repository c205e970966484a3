"""`internvl plan`: what a recipe would do, and what its downloads would cost."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.clusters import gpus_of
from pipelines.names import FlowName, Mixing, RecipeName
from pipelines.options import (
    AcceptWithdrawn,
    AllowHost,
    BlockDomains,
    BlockUrls,
    CaptionColumn,
    ConversationRoot,
    Conversations,
    Images,
    LanguageModel,
    Lists,
    MixingOption,
    Recipe,
    Schema,
    System,
    UrlColumn,
    Urls,
    Version,
    VisionModel,
    allowed_hosts,
    app,
    own_data,
)
from pipelines.own_options import pilot_command
from pipelines.plan_tables import show_budgets, show_compared
from pipelines.price_rows import PRICE_ROWS
from pipelines.pricing import Unknown, pilot_steps, prices
from pipelines.recipes import OwnData
from pipelines.terminal import Refusal, clear_errors, console, run_flow
from stages.aliases import refuse_reserved
from stages.download_price import Price
from stages.manifest import find
from stages.ref import Ref

if TYPE_CHECKING:
    from pipelines.budget import Budget
    from pipelines.training_price import Training


PlanOf = Annotated[str, typer.Argument(help="Which part of the road, or which recipe: data, train, internvl, paper.")]


@app.command()
def plan(
    what: PlanOf = "internvl",
    recipe: Recipe = RecipeName.TINY,
    version: Version = "",
    urls: Urls = None,
    url_column: UrlColumn = "url",
    caption_column: CaptionColumn = "text",
    schema: Schema = "generic",
    accept_withdrawn: AcceptWithdrawn = False,
    block_urls: BlockUrls = None,
    block_domains: BlockDomains = None,
    images: Images = None,
    lists: Lists = None,
    language_model: LanguageModel = None,
    vision_model: VisionModel = None,
    system: System = None,
    conversations: Conversations = None,
    conversation_root: ConversationRoot = None,
    mixing: MixingOption = Mixing.REPEAT,
    allow_host: AllowHost = None,
    pilot: Annotated[
        int, typer.Option("--pilot", min=0, help="Download so many urls of each source, to price the whole lists.")
    ] = 0,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Downloads at once to reckon with; this machine's CPUs when 0.")
    ] = 0,
    host_rate: Annotated[
        float | None,
        typer.Option(
            "--host-rate", min=0, help="Requests a second to one host; the recipe's when left out, 0 no limit."
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="GPUs to reckon with, such as 640xA100 or 8xH100-80GB.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Dollars of one GPU for an hour; with --cluster.")
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option("--mfu", min=0.001, max=1, help="Share of the cards' peak; what was measured when left out."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the forecast beside each training's checkpoint, to be compared.")
    ] = False,
    compare: Annotated[
        str | None, typer.Option("--compare", help="Show a kept forecast against the run: name@version.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show the steps of a recipe and which of them stand; what its training costs; what downloads, by a pilot."""
    with clear_errors():
        from pipelines.missing import missing, refuse_unreadable
        from pipelines.plan import states_of, steps_of
        from pipelines.rooms import too_small
        from pipelines.training_price import training_prices

        if compare is not None:
            show_compared(Ref.model_validate(compare), Store(settings().store_root), as_json)
            return
        what, recipe = _asked(what, recipe)
        if (price is not None or mfu is not None or keep) and cluster is None:
            raise Refusal(
                "--price, --mfu and --keep are about GPUs; name them with --cluster, such as --cluster 640xA100"
            )
        gpus = gpus_of(cluster) if cluster else None
        if pilot and what is FlowName.TRAIN:
            raise Refusal("training downloads nothing; a pilot prices data: internvl plan data --pilot 10000")
        own = own_data(
            urls, url_column, caption_column, images, allow_host, schema=schema, accept_withdrawn=accept_withdrawn,
            block_urls=block_urls, block_domains=block_domains, lists=lists, language_model=language_model,
            vision_model=vision_model, system=system, conversations=conversations, mixing=mixing,
            conversation_root=conversation_root,
        )  # fmt: skip
        if pilot:
            _pilot(recipe, pilot, version, own, quiet=as_json)
        store = Store(settings().store_root)
        steps = steps_of(what, recipe, version, own)
        for step in steps:
            refuse_reserved(step.spec.artifact)
        refuse_unreadable(steps, store)
        states, labels = states_of(steps, store), {str(step.spec.artifact): step.label for step in steps}
        priced = prices(steps, store, workers, host_rate, pilot, pilot_command(recipe, version, own))
        trained = training_prices(steps)
        needed: list[Budget] = []
        if gpus is not None:
            from pipelines.budget import budgets

            needed = budgets(steps, trained, states, store, gpus, dollars_per_hour=price, given=mfu)
            if keep:
                from pipelines.plan_compared import keep as keep_forecasts

                keep_forecasts(needed, steps, store)
        if as_json:
            listed = [{"step": labels[name], "artifact": name, "state": state} for name, state in states.items()]
            sources, training = ([each.as_json() for each in group] for group in (priced, trained))
            found: dict[str, Any] = {"steps": listed, "sources": sources, "training": training}
            if gpus is not None:
                found |= {"cluster": str(gpus), "budget": [each.as_json() for each in needed]}
            print(json.dumps(found, indent=2))
            return
        table = Table("step", "artifact", "state")
        for name, state in states.items():
            table.add_row(labels[name], name, state)
        console.print(table)
        _show(priced)
        _show_training(trained)
        if gpus is not None:
            show_budgets(needed, gpus)
        for line in missing(steps, store):
            console.print(f"missing: {line}", style="dim", highlight=False, markup=False)
        for line in too_small(steps, store):
            console.print(f"too small: {line}", style="dim", highlight=False, markup=False)


def _asked(what: str, recipe: RecipeName) -> tuple[FlowName, RecipeName]:
    """Return the flow and the recipe that an argument names: a flow of `--recipe`, or a recipe as a whole.

    Raises:
        Refusal: It names neither, or another recipe than the option.
    """
    if what in list(FlowName):
        return FlowName(what), recipe
    if what not in list(RecipeName):
        raise Refusal(f"there is no {what!r} to plan; name one of {', '.join([*FlowName, *RecipeName])}")
    if recipe not in (RecipeName.TINY, what):
        raise Refusal(f"{what} and --recipe {recipe} are two recipes; leave one of them out")
    return FlowName.INTERNVL, RecipeName(what)


def _pilot(recipe: RecipeName, urls: int, version: str, own: OwnData, quiet: bool) -> None:
    """Draw and download the pilots, unless they stand."""
    from pipelines.plan import preflight

    here = settings()
    steps = pilot_steps(recipe, urls, version, own)
    store = Store(here.store_root)
    preflight(steps, store)
    if all(find(store, step.spec.artifact) for step in steps):
        return

    def begin() -> list[str]:
        from pipelines.pilot import run_pilot

        return run_pilot(recipe=recipe, urls=urls, version=version, own=own)

    was, console.quiet = console.quiet, quiet
    try:
        for line in allowed_hosts(steps):
            console.print(line, style="dim", highlight=False, markup=False)
        run_flow(here, begin)
    finally:
        console.quiet = was


def _show(priced: Sequence[Price | Unknown]) -> None:
    """Print what is known of the lists, a column per source."""
    known = [each for each in priced if isinstance(each, Price)]
    if known:
        table = Table("whole list", *(each.source for each in known))
        for name, cell in PRICE_ROWS:
            table.add_row(name, *(cell(each) for each in known))
        console.print(table)
        rates = sorted({each.host_rate for each in known})
        limits = ", ".join("no limit per host" if not rate else f"{rate:g} requests/s per host" for rate in rates)
        console.print(
            f"with {known[0].workers} downloads at once and {limits}; further tries, redirects and robots.txt "
            "come on top of the requests",
            style="dim",
        )
    for each in priced:
        if isinstance(each, Unknown):
            console.print(f"{each.source}: {each.reason}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _show_training(found: "Sequence[Training]") -> None:
    """Print models and compute of the training stages, and GPU hours where there are GPUs."""
    from pipelines.training_price import HEAD, PEAK_TFLOPS, UTILISATION

    if not found:
        return
    table = Table(*HEAD, "GPUs")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in found:
        table.add_row(*each.cells(), f"{each.gpus or '–'}")
    console.print(table)
    cards = ", ".join(f"{card} {peak:g}" for card, peak in PEAK_TFLOPS.items())
    console.print(
        f"GPU hours at {UTILISATION:.0%} of bf16 peak ({cards} TFLOP/s), texts at full length; what is computed "
        "twice to save memory comes on top",
        style="dim",
        highlight=False,
    )
