"""The `internvl` command; here is what starts work, in `planning.py` what looks ahead, in `reading.py` what looks."""

import os

from infra.settings import settings
from infra.storage import Store
from pipelines import (
    adopting,
    approving,
    asking,
    auditing,
    benchmark_list,
    cataloguing,
    chatting,
    checking,
    comparing,
    converting,
    distilling,
    evaluating,
    explaining,
    exporting,
    finetuning,
    harnesses,
    inspecting,
    judging,
    looking,
    planning,
    reading,
    reaping,
    rerunning,
    reviewing,
    serving,
    sharding,
    simulating,
    sources_listing,
    sweeping,
    tuning,
    varying,
)
from pipelines.names import FlowName, Mixing, RecipeName
from pipelines.options import (
    AcceptWithdrawn,
    AllowHost,
    Approve,
    BlockDomains,
    BlockUrls,
    CaptionColumn,
    ConversationRoot,
    Conversations,
    Force,
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
    What,
    allowed_hosts,
    app,
    own_data,
)
from pipelines.recipes import NO_DATA, OwnData
from pipelines.terminal import Refusal, clear_errors, console, links, run_flow

__all__ = [
    "adopting",
    "app",
    "approving",
    "asking",
    "auditing",
    "benchmark_list",
    "cataloguing",
    "chatting",
    "checking",
    "comparing",
    "converting",
    "distilling",
    "evaluating",
    "explaining",
    "exporting",
    "finetuning",
    "harnesses",
    "inspecting",
    "judging",
    "looking",
    "main",
    "planning",
    "reading",
    "reaping",
    "rerunning",
    "reviewing",
    "serving",
    "sharding",
    "simulating",
    "sources_listing",
    "sweeping",
    "tuning",
    "varying",
]


@app.command()
def up() -> None:
    """Start Prefect, Ray, the report server and the tiny web; print where to look."""
    from pipelines import launcher

    with clear_errors():
        here = settings()
        launcher.up(here, lambda text: console.print(text, style="dim"))
        launcher.wait_for_forms(here)
        links(here)


@app.command()
def down() -> None:
    """Stop the services that we started, and nothing else."""
    from pipelines import launcher

    with clear_errors():
        launcher.down(settings(), console.print)


@app.command()
def run(
    what: What = FlowName.INTERNVL,
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
    force: Force = False,
    approve: Approve = False,
) -> None:
    """Run a recipe: data (url lists to shards), train (shards to chat model), or internvl (both)."""
    with clear_errors():
        own = own_data(
            urls, url_column, caption_column, images, allow_host, schema=schema, accept_withdrawn=accept_withdrawn,
            block_urls=block_urls, block_domains=block_domains, lists=lists, language_model=language_model,
            vision_model=vision_model, system=system, conversations=conversations, mixing=mixing,
            conversation_root=conversation_root,
        )  # fmt: skip
        _run(what, recipe, version, own, force, approve)


@app.command()
def demo() -> None:
    """Run the tiny recipe from url lists to a chat model; the services stay up so that the links work."""
    from pipelines import launcher

    with clear_errors():
        try:
            _run(FlowName.INTERNVL, RecipeName.TINY, "", NO_DATA, force=False)
        finally:
            if os.environ.get("CI") == "true":
                launcher.down(settings(), console.print)
    if os.environ.get("CI") != "true":
        console.print("the services stay up so that the links work; stop them with: make down (or internvl down)")


def _run(what: FlowName, recipe: RecipeName, version: str, own: OwnData, force: bool, approve: bool = False) -> None:
    from pipelines.placing import placed_here
    from pipelines.plan import preflight, steps_of
    from pipelines.summary import summary

    if approve and what is not FlowName.INTERNVL:
        raise Refusal("an approval lies between filters and training: internvl run internvl --approve")
    here = settings()
    steps = steps_of(what, recipe, version, own)
    preflight(steps, Store(here.store_root), force)
    for line in (*allowed_hosts(steps), *placed_here(steps, here)):
        console.print(line, style="dim", highlight=False, markup=False)

    def begin() -> list[str]:
        if what is FlowName.DATA:
            from pipelines.data import build_data

            return build_data(recipe=recipe, version=version, own=own, force=force)
        if what is FlowName.TRAIN:
            from pipelines.train import train_models

            return train_models(recipe=recipe, version=version, own=own, force=force)
        from pipelines.internvl import build_everything

        return build_everything(recipe=recipe, version=version, own=own, force=force, approve_before_training=approve)

    made, seconds, total = run_flow(here, begin)
    summary(console, Store(here.store_root), made, seconds)
    console.print(f"{total / 60:.1f} minutes in all" if total >= 60 else f"{total:.0f} seconds in all")
    links(here)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
