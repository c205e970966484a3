"""From the name of a model to its shape: a published size, a folder, or an artifact; weights stay where they are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from infra.storage import Store
from pipelines.terminal import Refusal
from stages.manifest import Manifest, finished_versions, load
from stages.ref import Ref
from stages.workspace import read_file

if TYPE_CHECKING:
    from models.composition import Size
    from models.counting import Shapes

MAX_HEADER_BYTES = 100_000_000
"""Safetensors' own limit."""


def find_model(model: str, store: Store) -> tuple["Size", "Shapes | None"]:
    """Return what a name stands for, and the tensors that are stored under it, None where there are none to look at.

    Args:
        model: A published size, a folder with a config.json, or an artifact `name@version`.
        store: Where artifacts are.

    Raises:
        Refusal: It is nothing of these; the message lists what there is.
        ManifestError: The artifact does not stand.
        ValueError: Its config.json describes no model that we know.
    """
    from models.recognise import recognise
    from models.sizes import find_size

    if (size := find_size(model)) is not None:
        return size, None
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise Refusal(f"{folder} has no config.json; name the folder of a model")
        given, stored = _parsed((folder / "config.json").read_bytes(), f"config.json of {folder}"), _in_folder(folder)
    elif "@" in model:
        given, stored = _in_store(store, load(store, Ref.model_validate(model)))
    else:
        raise Refusal(_unknown(model, store))
    return recognise(model, given, stored), stored


def _unknown(model: str, store: Store) -> str:
    from models.sizes import SIZES

    made = [
        f"{name}@{version}"
        for kind in ("checkpoints", "exports")
        for name in (f"{kind}/{each}" for each in store.folders(kind))
        for version in finished_versions(store, name)
    ]
    return (
        f"{model!r} is no model that we know. Published sizes: {', '.join(SIZES)}. "
        f"Artifacts: {', '.join(made) or 'none yet'}. Or name a folder that holds a config.json"
    )


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        given = json.loads(data)
    except ValueError as error:
        raise Refusal(f"{what} is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refusal(f"{what} holds a {type(given).__name__}, no object")
    return given


def _in_folder(folder: Path) -> "Shapes | None":
    """Return the tensors of all safetensors files of a folder."""
    found: Shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            found |= tensor_shapes(stream, str(file))
    return found or None


def _in_store(store: Store, manifest: Manifest) -> tuple[dict[str, Any], "Shapes | None"]:
    """Return an artifact's config.json and the tensors of its files."""
    part = manifest.parts[0] if manifest.parts else None
    names = part.facts.get("names", {}) if part else {}
    files = {names[role]: file for role, file in part.files.items() if role in names} if part else {}
    if "config.json" not in files:
        raise Refusal(f"{manifest.ref} holds no model: there is no config.json in it; name one under checkpoints/")
    given = _parsed(read_file(store, manifest, files["config.json"]), f"config.json of {manifest.ref}")
    found: Shapes = {}
    for name, file in files.items():
        if name.endswith(".safetensors") and "/" not in name:
            with store.open(manifest.key(file)) as stream:
                found |= tensor_shapes(stream, f"{name} of {manifest.ref}")
    return given, found or None


def tensor_shapes(stream: BinaryIO, what: str) -> "Shapes":
    """Return the shapes in a safetensors file, read off its header alone.

    Raises:
        Refusal: It is no such file.
    """
    length = int.from_bytes(stream.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise Refusal(f"{what} is no safetensors file: its header would have {length:,} bytes")
    header = _parsed(stream.read(length), f"the header of {what}")
    header.pop("__metadata__", None)
    try:
        return {name: tuple(map(int, facts["shape"])) for name, facts in header.items()}
    except (KeyError, TypeError, ValueError):
        raise Refusal(f"{what} is no safetensors file: a tensor in its header has no shape") from None
