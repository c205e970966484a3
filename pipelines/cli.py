"""The `internvl` command: plan, run, rerun, chat, show, verify, up, down, demo."""

import os
from typing import Annotated

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.changes import StageName, rerun_steps
from pipelines.plan import FlowName, preflight, steps_of
from pipelines.recipes import OwnData, RecipeName, SourceName
from pipelines.terminal import Refusal, clear_errors, console, links, run_flow
from stages.manifest import ManifestError, load, verify
from stages.materialize import Drift, standing
from stages.ref import Ref

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Recipe = Annotated[RecipeName, typer.Option("--recipe", help="Which recipe to follow.")]
Version = Annotated[
    str | None, typer.Option("--version", help="Name of the result; the recipe's name when left out.")
]
Urls = Annotated[list[str] | None, typer.Option("--urls", help="Url lists: parquet, csv, tsv, jsonl; file or glob.")]
UrlColumn = Annotated[str, typer.Option("--url-column", help="Column that holds addresses.")]
CaptionColumn = Annotated[str, typer.Option("--caption-column", help="Column that holds captions.")]
Images = Annotated[str | None, typer.Option("--images", help="Folder or tar of pictures that are already there.")]
AllowHost = Annotated[list[str] | None, typer.Option("--allow-host", help="host:port that may be private.")]
Force = Annotated[bool, typer.Option("--force", help="Make everything again, also what stands.")]
What = Annotated[FlowName, typer.Argument(help="Which part of the road.")]


def _own(
    urls: list[str] | None, url_column: str, caption_column: str, images: str | None, allow: list[str] | None
) -> OwnData:
    return OwnData(
        urls=tuple(os.path.abspath(u) if "://" not in u else u for u in urls or ()),
        url_column=url_column,
        caption_column=caption_column,
        images=os.path.abspath(images) if images else None,
        allow_hosts=tuple(allow or ()),
    )


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
def plan(
    what: What = FlowName.INTERNVL,
    recipe: Recipe = RecipeName.TINY,
    version: Version = None,
    urls: Urls = None,
    url_column: UrlColumn = "url",
    caption_column: CaptionColumn = "text",
    images: Images = None,
) -> None:
    """Show the steps of a recipe: which stand, which are missing, which were made differently."""
    with clear_errors():
        store = Store(settings().store_root)
        table = Table("step", "artifact", "state")
        for step in steps_of(what, recipe, version, _own(urls, url_column, caption_column, images, None)):
            try:
                state = "stands" if standing(step.spec, store) else "missing"
            except Drift:
                state = "stands with other parameters"
            except ManifestError:
                state = "waits for its inputs"
            table.add_row(step.label, str(step.spec.artifact), state)
        console.print(table)


@app.command()
def run(
    what: What = FlowName.INTERNVL,
    recipe: Recipe = RecipeName.TINY,
    version: Version = None,
    urls: Urls = None,
    url_column: UrlColumn = "url",
    caption_column: CaptionColumn = "text",
    images: Images = None,
    allow_host: AllowHost = None,
    force: Force = False,
) -> None:
    """Run a recipe: data (url lists to shards), train (shards to chat model), or internvl (both)."""
    with clear_errors():
        own = _own(urls, url_column, caption_column, images, allow_host)
        _run(what, recipe, version, own, force)


@app.command()
def demo() -> None:
    """Run the tiny recipe from url lists to a chat model; the services stay up so that the links work."""
    from pipelines import launcher

    with clear_errors():
        try:
            _run(FlowName.INTERNVL, RecipeName.TINY, None, OwnData(), force=False)
        finally:
            if os.environ.get("CI") == "true":
                launcher.down(settings(), console.print)
    if os.environ.get("CI") != "true":
        console.print("the services stay up so that the links work; stop them with: make down (or internvl down)")


def _run(what: FlowName, recipe: RecipeName, version: str | None, own: OwnData, force: bool) -> None:
    from pipelines.summary import summary

    here = settings()
    preflight(steps_of(what, recipe, version, own), Store(here.store_root), force)

    def begin() -> list[str]:
        if what is FlowName.DATA:
            from pipelines.data import build_data

            return build_data(recipe=recipe, version=version, own=own, force=force)
        if what is FlowName.TRAIN:
            from pipelines.train import train_models

            return train_models(recipe=recipe, version=version, force=force)
        from pipelines.internvl import build_everything

        return build_everything(recipe=recipe, version=version, own=own, force=force)

    made, seconds, total = run_flow(here, begin)
    summary(console, Store(here.store_root), made, seconds)
    console.print(f"{total / 60:.1f} minutes in all")
    links(here)


@app.command()
def rerun(
    stage: Annotated[StageName, typer.Argument(help="Which stage.")],
    recipe: Recipe = RecipeName.TINY,
    source: Annotated[
        list[SourceName] | None, typer.Option("--source", help="Only this source; may be given again.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=value, as policy.clip_similarity.min_similarity=0.6; may be given again."),
    ] = None,
    after: Annotated[bool, typer.Option("--after", help="Also run everything that depends on it.")] = False,
    version: Annotated[str | None, typer.Option("--version", help="The version to start from.")] = None,
    new_version: Annotated[
        str | None, typer.Option("--new-version", help="Name of the result, beside the old one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands with other parameters.")] = False,
) -> None:
    """Run one stage again, with other parameters if wanted; without, what stands is made again."""
    with clear_errors():
        from pipelines.summary import summary

        here = settings()
        steps = rerun_steps(stage, recipe, source or (), change or (), version, new_version, after)
        preflight(steps, Store(here.store_root), force or not (change or new_version))

        def begin() -> list[str]:
            from pipelines.rerun import rerun as flow

            return flow(
                stage=stage, recipe=recipe, sources=source, changes=change, version=version,
                new_version=new_version, and_everything_after=after, force=force,
            )  # fmt: skip

        made, seconds, _ = run_flow(here, begin)
        for ref in made:
            console.print(f"{ref}  {here.report_url}/{Ref.model_validate(ref).folder}/", highlight=False)
        summary(console, Store(here.store_root), made, seconds)


@app.command()
def show(ref: Annotated[str, typer.Argument(help="name@version")]) -> None:
    """Print what a finished artifact holds."""
    with clear_errors():
        manifest = load(Store(settings().store_root), Ref.model_validate(ref))
        ledger = manifest.ledger
        console.print(
            f"{manifest.ref}  digest {manifest.digest[:16]}  stage {manifest.stage}  {len(manifest.parts)} parts"
        )
        console.print(
            f"listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} "
            f"+ failed {ledger.failed:,}"
        )
        for name, value in manifest.totals.items():
            if name not in ("funnel", "markdown"):
                console.print(f"{name}: {value}", highlight=False, markup=False)
        for name, digest in manifest.identity["inputs"].items():
            console.print(f"from {name} {digest[:16]}", highlight=False)


@app.command(name="verify")
def verify_command(
    refs: Annotated[list[str] | None, typer.Argument(help="name@version; everything when left out")] = None,
) -> None:
    """Read every byte back and compare; exit 1 and name the file where something differs."""
    from pipelines.report_server import finished

    with clear_errors():
        store = Store(settings().store_root)
        manifests = [load(store, Ref.model_validate(ref)) for ref in refs] if refs else finished(store)
        if not manifests:
            raise Refusal(f"no finished artifact in {store.root}; run something first: internvl demo")
        wrong = 0
        for manifest in manifests:
            problems = verify(store, manifest)
            wrong += len(problems)
            for problem in problems:
                console.print(f"[bold red]damaged[/] {problem}", highlight=False, soft_wrap=True)
            if not problems:
                console.print(f"whole   {manifest.ref}  {len(manifest.files())} files", highlight=False)
        if wrong:
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
