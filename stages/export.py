"""Write a trained model in formats that others load: transformers' own InternVL, and the official layout.

A chat model becomes one folder for `transformers.InternVLForConditionalGeneration`, which needs no
remote code; where that class computes something else, it keeps the official layout. InternVL-C and
InternVL-G have no such class: their weights keep the official names with the official `config.json`,
and the vision tower alone becomes a `transformers.InternVLVisionModel`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.storage import Store
from models.config import InternVLConfig
from models.layouts import from_layout
from models.native_config import native_vision_config
from models.renaming import below
from models.weights import vision_to_native
from stages.adapters import fetch_chat
from stages.checkpoints import FINAL, fetch
from stages.convert import convert
from stages.export_adapters import FOLDER as ADAPTERS
from stages.export_adapters import base_of, write_adapters
from stages.export_card import ADAPTERS_USAGE, CHAT_USAGE, OFFICIAL_USAGE, TOWERS_USAGE, model_card
from stages.export_chat import Layout, write_chat
from stages.export_native import image_processor_config, json_bytes
from stages.manifest import Ledger, Manifest, ManifestError, digest_of
from stages.model_files import open_source
from stages.weight_files import SHARD_BYTES, on_meta, open_weights, write_weights
from stages.workspace import Output, Workspace

VERSION = 3


class Parameters(BaseModel):
    """Which trained model is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["contrastive", "generative", "instruct"] = Field(
        description="Whose checkpoint is written: `checkpoints/<kind>`, the stage's input."
    )
    layout: Layout = Field(
        default="auto",
        description="Of a chat model: transformers' own where it computes the same, else the official one; or one "
        "of the two.",
    )
    adapters: Literal["merged", "separate"] = Field(
        default="merged",
        description="Of a chat model published without its base: added to it, or beside it for peft.",
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="Of `generation_config.json`: most tokens of an answer, when nobody says more."
    )


def write(
    source: Path,
    target: Path,
    parameters: Parameters,
    card: Callable[[str], str],
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Write a checkpoint's files into a new folder; return what somebody should know of it, if anything.

    Args:
        source: The checkpoint's files, in any layout.
        target: A new or empty folder.
        parameters: What is written.
        card: From how the model is used to README.md.
        shard_bytes: Most bytes of one file of weights.

    Raises:
        ManifestError: The tokenizer is missing, or is not this model's; or there are no adapters beside a base.
        ValueError: There is no such layout of this model, or it is another kind of model.
    """
    if parameters.kind == "instruct":
        apart = parameters.adapters == "separate"
        with TemporaryDirectory(prefix="internvl-export-") as scratch:
            written = base_of(source, Path(scratch)) if apart else source
            done = write_chat(written, target, parameters.layout, parameters.max_new_tokens, shard_bytes)
        usage = CHAT_USAGE if done.layout == "native" else OFFICIAL_USAGE
        notes = [f"layout {done.layout}" + (f": {done.why}" if done.why else "")]
        if apart:
            write_adapters(source, target / ADAPTERS, done.config, done.layout == "native")
            usage += ADAPTERS_USAGE
    else:
        _write_towers(source, target, shard_bytes)
        usage, notes = TOWERS_USAGE, []
    (target / "README.md").write_text(card(usage))
    return notes


def _write_towers(source: Path, target: Path, shard_bytes: int) -> None:
    """Write InternVL-C or InternVL-G: the official layout, and the vision tower for transformers' own class.

    Raises:
        ValueError: The native vision class cannot compute the same, or it is no such model.
    """
    opened = open_source(source)
    if not isinstance(opened.config, InternVLConfig):
        raise ValueError(f"{source} holds no InternVL-C or -G; name one of the contrastive or generative stage")
    vision = below(from_layout(opened.layout, opened.weights, opened.config, opened.decoder), "vision_model.")
    described = native_vision_config(opened.config.vision)
    convert(source, target, "official", shard_bytes=shard_bytes)
    tower = vision_to_native(vision)
    write_weights(tower, on_meta(tower), target / "vision", shard_bytes)
    image = json_bytes(image_processor_config(opened.config.vision.image_size))
    for name, data in (
        ("preprocessor_config.json", image),
        ("vision/preprocessor_config.json", image),
        ("vision/config.json", json_bytes(described)),
    ):
        (target / name).write_bytes(data)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write the files of one checkpoint; `unpack` brings them back under their plain names.

    Raises:
        ManifestError: The checkpoint cannot be read, or nobody else can compute the same.
    """
    checkpoint = here.input(f"checkpoints/{parameters.kind}")
    evaluations = here.all("evaluations")
    digest = digest_of({name: manifest.digest for name, manifest in here.inputs.items()})
    folder = fetch_chat(here.store, checkpoint, here.scratch / "checkpoint")
    target = here.scratch / "export"
    title = f"{'InternVL-Chat' if parameters.kind == 'instruct' else 'InternVL'}: {checkpoint.ref}"
    try:
        notes = write(folder, target, parameters, lambda usage: model_card(title, usage, checkpoint, evaluations))
    except (ManifestError, ValueError) as error:
        raise ManifestError(f"{checkpoint.ref} cannot be exported: {error}") from error
    files = {path.relative_to(target).as_posix(): path for path in sorted(target.rglob("*")) if path.is_file()}
    weights = on_meta(open_weights(target))
    names = {name.replace("/", "__").replace(".", "_"): name for name in files}
    ledger = Ledger(listed=len(weights), kept=len(weights))
    part = output.part(
        FINAL, digest, ledger, {role: (name, files[name]) for role, name in names.items()}, {"names": names}
    )
    totals: dict[str, Any] = {
        "tensors": len(weights),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "files": len(files),
        "notes": notes,
    }
    return output.commit([part], totals={**totals, "markdown": _markdown(files)})


def _markdown(files: Mapping[str, Path]) -> str:
    lines = ["| file | bytes |", "| :-- | --: |"]
    return "\n".join(lines + [f"| {name} | {path.stat().st_size:,} |" for name, path in sorted(files.items())])


def unpack(store: Store, manifest: Manifest, folder: Path) -> Path:
    """Write an export's files into a folder under their plain names, each hash checked.

    Raises:
        ManifestError: A file differs from the manifest, or its name would lead out of the folder.
    """
    for name in manifest.parts[0].facts["names"].values():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ManifestError(f"{manifest.ref} names a file {name!r} outside its folder; export it again")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return fetch(store, manifest, folder)
