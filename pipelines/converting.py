"""The command that brings a model from the layout of one code into another's."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.manifest import load
from stages.ref import Ref


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


@contextmanager
def files_of(source: str) -> Iterator[Path]:
    """Lend the place where a model's files are; those of an artifact `name@version` are copied out of the store.

    Raises:
        ManifestError: The artifact does not stand.
        Refusal: It holds no model.
    """
    path = Path(source).expanduser()
    if path.exists() or "@" not in source:
        yield path
        return
    from stages.adapters import fetch_chat, holds_adapters
    from stages.export import unpack

    store = Store(settings().store_root)
    manifest = load(store, Ref.model_validate(source))
    names = manifest.parts[0].facts.get("names", {}) if manifest.parts else {}
    if "config.json" not in names.values():
        raise Refusal(f"{source} holds no model: there is no config.json in it; name one under checkpoints/")
    with TemporaryDirectory(prefix="internvl-convert-") as folder:
        # Errors name the files, and so the artifact, too.
        (place := Path(folder) / source).mkdir(parents=True)
        yield fetch_chat(store, manifest, place) if holds_adapters(manifest) else unpack(store, manifest, place)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(help="A folder with config.json and safetensors, a .pth file, or an artifact name@version."),
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

        with files_of(source) as path:
            done = converted(
                path,
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
