"""The command that writes a trained model for others to load."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.converting import files_of
from pipelines.options import app
from pipelines.terminal import clear_errors, console
from stages.manifest import load
from stages.ref import Ref


class Layout(StrEnum):
    """Layouts of an exported chat model."""

    AUTO = "auto"
    NATIVE = "native"
    OFFICIAL = "official"


class Adapters(StrEnum):
    """Where adapters (LoRA) go."""

    MERGED = "merged"
    SEPARATE = "separate"


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="What to export: an artifact name@version, or a model's folder.")],
    target: Annotated[Path, typer.Argument(help="A new folder. Nothing is overwritten.")],
    layout: Annotated[
        Layout,
        typer.Option(
            "--layout",
            help="Of a chat model. native: transformers' own classes, without remote code. official: the remote "
            "code's. auto: native where that computes the same.",
        ),
    ] = Layout.AUTO,
    adapters: Annotated[
        Adapters,
        typer.Option("--adapters", help="Of a checkpoint published without its base: merged into it, or separate."),
    ] = Adapters.MERGED,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Most tokens of an answer, when nobody says more.")
    ] = 512,
    shard_gigabytes: Annotated[
        float, typer.Option("--shard-gigabytes", min=0.001, help="Most of one safetensors file.")
    ] = 5.0,
) -> None:
    """Write a trained model into a folder that others load, with all that is needed to talk to it.

    A chat model loads with transformers' AutoModelForImageTextToText and
    AutoProcessor from the folder alone; README.md there says how.
    InternVL-C and -G keep the official layout, and their vision tower loads
    with transformers.
    """
    with clear_errors():
        from stages.chat_loading import is_chat
        from stages.export import Parameters, write
        from stages.export_card import model_card

        with files_of(checkpoint) as folder:
            stored = "@" in checkpoint and not Path(checkpoint).expanduser().exists()
            manifest = load(Store(settings().store_root), Ref.model_validate(checkpoint)) if stored else None
            chat = is_chat(folder)
            name = manifest.ref if manifest else folder.resolve().name
            card = partial(model_card, f"{'InternVL-Chat' if chat else 'InternVL'}: {name}", checkpoint=manifest)
            parameters = Parameters(
                kind="instruct" if chat else "contrastive",
                layout=layout.value,
                adapters=adapters.value,
                max_new_tokens=max_new_tokens,
            )
            notes = write(folder, target, parameters, lambda usage: card(usage=usage), int(shard_gigabytes * 10**9))
        for note in notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        for path in sorted(each for each in target.rglob("*") if each.is_file()):
            console.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False, markup=False, soft_wrap=True)
