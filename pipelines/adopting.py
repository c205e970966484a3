"""The command that brings a chat model of others into the store."""

from pathlib import Path
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.aside import made_aside
from pipelines.following import bar, followed
from pipelines.options import app
from pipelines.terminal import clear_errors, console
from stages.aliases import refuse_reserved
from stages.materialize import StageSpec
from stages.ref import Ref


@app.command()
def adopt(
    folder: Annotated[Path, typer.Argument(help="Folder of a chat model: official, transformers' own, or ours.")],
    new_version: Annotated[str, typer.Option("--new-version", help="Version of checkpoints/instruct to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what stands.")] = False,
) -> None:
    """Bring a published chat model into the store, to be tuned, measured, served and exported like our own."""
    with clear_errors():
        from stages.adopt import NAME, Parameters, digest_of_folder
        from stages.chat_loading import open_chat

        artifact, place = Ref(name=NAME, version=new_version), folder.expanduser().resolve()
        refuse_reserved(artifact)
        open_chat(place)  # before gigabytes of what is none are hashed
        with bar(f"reading {folder}"):
            digest = digest_of_folder(place)
        spec = StageSpec(
            stage="adopt",
            artifact=artifact,
            parameters=Parameters(folder=str(place), digest=digest).model_dump(mode="json"),
        )
        store = Store(settings().store_root)
        with followed(store, artifact):
            made = made_aside(spec, store, force)
        console.print(f"{made.ref}  {made.totals['parameters']:,} parameters", highlight=False)
        console.print(
            f"train it further with internvl tune {made.ref} --conversations NAME@VERSION --new-version NAME",
            style="dim", highlight=False, soft_wrap=True,
        )  # fmt: skip
