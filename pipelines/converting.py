"""The command that brings a model from the layout of one code into another's."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import app
from pipelines.terminal import clear_errors, console


class Whose(StrEnum):
    """Layouts of a model in files."""

    OURS = "ours"
    OFFICIAL = "official"
    NATIVE = "native"
    PTH = "pth"


class LanguageLayout(StrEnum):
    """Layouts of a language model's weights."""

    LLAMA = "llama"
    QWEN2 = "qwen2"
    INTERNLM2 = "internlm2"
    PHI3 = "phi3"


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A folder with config.json and safetensors in any layout, or a .pth file.")
    ],
    target: Annotated[
        Path, typer.Argument(help="A new folder; for the layout pth a new file NAME.pth. Nothing is overwritten.")
    ],
    to: Annotated[
        Whose | None,
        typer.Option(
            "--to",
            help="Layout to write. If unsaid: pth for a TARGET that ends so, official from native or pth, native "
            "from others; InternVL-C and -G have no native class: official from ours, ours from official.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="The source's config.json, in any layout, where it lies elsewhere or a .pth has none."
        ),
    ] = None,
    language: Annotated[
        LanguageLayout | None,
        typer.Option(
            "--language",
            help="Layout of the language model inside an official chat model; if unsaid, the one it came with.",
        ),
    ] = None,
    image_token_id: Annotated[
        int | None,
        typer.Option("--image-token-id", help="Id of <IMG_CONTEXT>, if neither config.json nor tokenizer says."),
    ] = None,
    shard_gigabytes: Annotated[
        float, typer.Option("--shard-gigabytes", min=0.001, help="Most of one safetensors file.")
    ] = 5.0,
) -> None:
    """Write a model in the layout of another code: the same numbers, bit by bit.

    ours: what training leaves; one folder of checkpoints/.
    official: the remote code's; InternViT, InternVL-C and -G, chat models.
    native: transformers' own InternVL classes, without remote code.
    pth: the first release's single files; InternViT, InternVL-C and -G.

    Which one SOURCE has is told by its config.json; a .pth is pth.
    All tensors are checked before any is read, and then pass one by one: a
    model of any size converts in little memory. Nothing is unpickled.
    """
    with clear_errors():
        from stages.convert import convert as converted

        done = converted(
            source,
            target,
            to.value if to else None,
            config=config,
            language=language.value if language else None,
            image_token_id=image_token_id,
            shard_bytes=int(shard_gigabytes * 10**9),
        )
        console.print(f"{done.what}: {done.came} -> {done.became}", highlight=False)
        for note in done.notes:
            console.print(note, highlight=False, markup=False)
        for path in done.files:
            console.print(f"{path}  {path.stat().st_size:,} bytes", highlight=False, markup=False, soft_wrap=True)
