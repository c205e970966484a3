"""`internvl plan`: what a recipe would do, and what that takes."""

import json
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
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
from pipelines.plan_tables import compared_section
from pipelines.pricing import pilot_steps
from pipelines.recipes import OwnData
from pipelines.sections import show
from pipelines.terminal import Refusal, clear_errors, console, run_flow
from stages.forecasts import compare as compare_one
from stages.manifest import find
from stages.ref import Ref

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
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Take a few training steps on this machine; plans go by their speed after."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the forecast beside each training's checkpoint, to be compared.")
    ] = False,
    compare: Annotated[
        str | None, typer.Option("--compare", help="Show a kept forecast against the run: name@version.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show the steps of a recipe and which of them stand; rows, bytes and hours of each; what its training takes."""
    with clear_errors():
        from pipelines.plan_document import Asked, made

        if compare is not None:
            _compare(Ref.model_validate(compare), Store(settings().store_root), as_json)
            return
        what, recipe = _asked(what, recipe)
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
        found = made(
            Asked(
                what, recipe, version, own, cluster or "", price, mfu, pilot=pilot, workers=workers,
                host_rate=host_rate, calibrate=calibrate, keep=keep,
            )
        )  # fmt: skip
        if as_json:
            print(json.dumps(found.as_json(), indent=2))
        else:
            show(found.sections())


def _compare(ref: Ref, store: Store, as_json: bool) -> None:
    """Print what was forecast of a run beside what came."""
    found = compare_one(ref, store)
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=2))
        return
    show(compared_section({str(ref): found}))


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
