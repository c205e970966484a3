"""The `internvl` command: plan, run, rerun, show, verify, up, down."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.settings import Settings, quiet_environment, settings
from infra.storage import StorageError, Store
from pipelines.graph import Step, data_steps
from pipelines.recipes import OwnData, RecipeName, make
from stages.manifest import ManifestError, find, load, verify
from stages.materialize import Drift, standing
from stages.ref import Ref

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
console = Console()

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


class Refusal(RuntimeError):
    """Something a user can put right; shown as one message, without a traceback."""


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what a user can put right into one message and exit code 2."""
    from pipelines.launcher import LaunchError

    try:
        yield
    except (Drift, ManifestError, StorageError, LaunchError, Refusal, ValueError) as error:
        console.print(f"[bold red]error:[/] {_plain(error)}", highlight=False)
        raise typer.Exit(2) from None


def _plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))


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


def _steps(recipe: RecipeName, version: str | None, own: OwnData) -> list[Step]:
    return data_steps(make(recipe, own, settings().web_url), version or str(recipe))


@app.command()
def up() -> None:
    """Start Prefect, Ray, the report server and the tiny web; print where to look."""
    from pipelines import launcher

    with _clear_errors():
        here = settings()
        launcher.up(here, lambda text: console.print(text, style="dim"))
        _links(here)


@app.command()
def down() -> None:
    """Stop the services that we started, and nothing else."""
    from pipelines import launcher

    launcher.down(settings(), console.print)


def _links(here: Settings) -> None:
    console.print(f"runs and forms  {here.prefect_ui_url}")
    console.print(f"reports         {here.report_url}")


@app.command()
def plan(
    recipe: Recipe = RecipeName.TINY,
    version: Version = None,
    urls: Urls = None,
    url_column: UrlColumn = "url",
    caption_column: CaptionColumn = "text",
    images: Images = None,
) -> None:
    """Show the steps of a recipe: which stand, which are missing, which were made differently."""
    with _clear_errors():
        store = Store(settings().store_root)
        table = Table("step", "artifact", "state")
        for step in _steps(recipe, version, _own(urls, url_column, caption_column, images, None)):
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
    what: Annotated[str, typer.Argument(help="What to run: data.")] = "data",
    recipe: Recipe = RecipeName.TINY,
    version: Version = None,
    urls: Urls = None,
    url_column: UrlColumn = "url",
    caption_column: CaptionColumn = "text",
    images: Images = None,
    allow_host: AllowHost = None,
    force: Force = False,
) -> None:
    """Run a recipe, from url lists to shards."""
    with _clear_errors():
        if what != "data":
            raise Refusal(f"there is no flow {what!r}; the flows are: data")
        own = _own(urls, url_column, caption_column, images, allow_host)
        _run(recipe, version, own, force)


@app.command()
def demo() -> None:
    """Run the tiny recipe and print a summary; the services stay up so that the links work."""
    from pipelines import launcher

    with _clear_errors():
        try:
            _run(RecipeName.TINY, None, OwnData(), force=False)
        finally:
            if os.environ.get("CI") == "true":
                launcher.down(settings(), console.print)


def _run(recipe: RecipeName, version: str | None, own: OwnData, force: bool) -> None:
    from pipelines import launcher

    here = settings()
    steps = _steps(recipe, version, own)
    started = time.monotonic()
    launcher.up(here, lambda text: console.print(text, style="dim"))
    os.environ.update(quiet_environment(here))
    os.environ.setdefault("PREFECT_LOGGING_TO_CONSOLE_LEVEL", "CRITICAL")
    os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"
    _links(here)
    from pipelines.data import build_data
    from pipelines.steps import watch

    seconds: dict[str, float] = {}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        console=console, transient=not sys.stdout.isatty(),
    ) as bars:  # fmt: skip
        whole = bars.add_task("all steps", total=len(steps), note="")
        rows: dict[str, TaskID] = {}

        def tell(artifact: str, state: str, progress: dict[str, Any]) -> None:
            if state == "starting":
                rows[artifact] = bars.add_task(artifact, total=None, note="starting")
            elif state == "running":
                note = f"{progress['done']:g}/{progress['total']:g} {progress['unit']}"
                bars.update(rows[artifact], completed=progress["done"], total=progress["total"], note=note)
            else:
                if artifact in rows:
                    bars.remove_task(rows.pop(artifact))
                seconds[artifact] = progress.get("seconds", 0.0)
                bars.advance(whole)
                if not sys.stdout.isatty():
                    console.print(f"{state:7} {artifact} {seconds[artifact]:.0f} s")

        watch(tell)
        try:
            build_data(recipe=recipe, version=version, own=own, force=force)
        except KeyboardInterrupt:
            raise Refusal("stopped; finished parts are kept: run the same command to go on") from None
        except (Drift, ManifestError, StorageError):
            raise
        except Exception as error:
            raise Refusal(f"{error}\nfinished parts are kept: run the same command to go on") from error
    _summary(steps, seconds, time.monotonic() - started, here)


def _summary(steps: list[Step], seconds: dict[str, float], total: float, here: Settings) -> None:
    from filters.funnel import PAPER, PAPER_TOTAL

    store = Store(here.store_root)
    table = Table(
        "source", "listed", "fetched", "clean", "caption quality", "clean kept", "paper", "quality kept", "paper"
    )
    names = [step.artifact.partition("/")[2] for step in steps if step.spec.stage == "list_urls"]
    version = steps[0].spec.artifact.version
    sums = [0, 0, 0, 0]
    for name in names:
        counts = []
        for artifact in (f"pool/{name}", f"verdicts/clean/{name}", f"verdicts/caption_quality/{name}"):
            counts.append(load(store, Ref(name=artifact, version=version)).ledger)
        row = [counts[0].listed, counts[0].kept, counts[1].kept, counts[2].kept]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        table.add_row(name, *_shares(row, PAPER.get(name)))
    table.add_row("total", *_shares(sums, PAPER_TOTAL), style="bold")
    console.print(table)
    console.print("shares are of listed rows; paper: arXiv 2312.14238, Table 2", style="dim")
    listed, fetched, _, quality = sums
    console.print(
        f"ledger: listed {listed:,} = kept {quality:,} + rejected {fetched - quality:,} + failed {listed - fetched:,}"
    )
    network = find(store, Ref(name="checkpoints/filtering_network", version=version))
    if network:
        console.print(
            f"filtering network: image-to-text R@1 {network.totals['image_to_text_r1']:.3f} "
            f"(chance {network.totals['chance_r1']:.3f}, {network.totals['held_out']} held-out rows)"
        )
    slow = sorted(((s, a) for a, s in seconds.items() if s >= 1), reverse=True)[:8]
    if slow:
        console.print("longest steps: " + ", ".join(f"{artifact} {s:.0f} s" for s, artifact in slow))
    console.print(f"{total / 60:.1f} minutes in all")
    _links(here)
    console.print("the services stay up so that the links work; stop them with: make down (or internvl down)")


def _shares(row: list[int], paper: tuple[float, float, float] | None) -> list[str]:
    def share(part: float, whole: float) -> str:
        return f"{100 * part / whole:.1f} %" if whole else "-"

    return [
        *(f"{count:,}" for count in row),
        share(row[2], row[0]),
        share(paper[1], paper[0]) if paper else "-",
        share(row[3], row[0]),
        share(paper[2], paper[0]) if paper else "-",
    ]


@app.command()
def show(ref: Annotated[str, typer.Argument(help="name@version")]) -> None:
    """Print what a finished artifact holds."""
    with _clear_errors():
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
                console.print(f"{name}: {value}", highlight=False)
        for name, digest in manifest.identity["inputs"].items():
            console.print(f"from {name} {digest[:16]}", highlight=False)


@app.command(name="verify")
def verify_command(
    refs: Annotated[list[str] | None, typer.Argument(help="name@version; everything when left out")] = None,
) -> None:
    """Read every byte back and compare; exit 1 and name the file where something differs."""
    from pipelines.report_server import finished

    with _clear_errors():
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
