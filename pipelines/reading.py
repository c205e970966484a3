"""The commands that only read: show, verify, chat."""

from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import load, verify
from stages.ref import Ref


@app.command()
def chat(
    ref: Annotated[str, typer.Argument(help="A chat model, name@version.")] = "checkpoints/instruct@tiny",
    image: Annotated[str | None, typer.Option("--image", help="A picture to talk about.")] = None,
    scene: Annotated[
        int | None, typer.Option("--scene", min=0, help="A picture of the drawn world, by number, never trained on.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", help="Ask this one question and end.")] = None,
) -> None:
    """Talk to a chat model about a picture; without --question, until Ctrl-D."""
    with clear_errors():
        from pipelines.chat import drawn_picture, open_picture, session_of, talk

        if image is not None and scene is not None:
            raise Refusal("--image and --scene name two pictures; give one of them")
        picture = open_picture(image)
        if scene is not None:
            picture, caption = drawn_picture(scene)
            console.print(f"scene {scene} shows: {caption}", style="dim")
        session = session_of(Store(settings().store_root), ref)
        if question is not None:
            print(session.ask(question, picture))
            return
        console.print("ask away; /image FILE shows another picture, Ctrl-D ends", style="dim")
        talk(session, picture, lambda: input("> "), print)


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
            if name not in ("funnel", "cube", "markdown"):
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
