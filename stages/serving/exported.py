"""From what a person names to a folder that an engine can load: an export, a checkpoint, or files of one's own."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from infra.storage import Store
from stages.adapters import fetch_chat
from stages.export import VERSION, unpack
from stages.export_card import CHAT_USAGE, model_card
from stages.export_chat import write_chat
from stages.manifest import Manifest, ManifestError, find, load
from stages.ref import Ref
from stages.serving.served_model import ServedModel

ANSWER_TOKENS = 64
"""`max_new_tokens` in a generation_config.json written here; each request says its own."""


def served(source: str, store: Store, cache: Path) -> ServedModel:
    """Return the chat model that a person means.

    Args:
        source: `exports/instruct@version`, `checkpoints/instruct@version` or a promoted name, or a folder in our
            layout or in transformers' native one.
        store: Where artifacts are.
        cache: Where folders made from artifacts stay for the next time, by the artifact's digest and
            the version of the exporting code.

    Raises:
        ManifestError: There is none, it is no chat model, or transformers cannot compute the same.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path, cache)
    if "@" not in source:
        raise ManifestError(
            f"there is no folder {source}; name one, or an artifact such as checkpoints/instruct@tiny"
        )
    manifest = load(store, Ref.model_validate(source))
    if manifest.ref.name not in ("exports/instruct", "checkpoints/instruct"):
        raise ManifestError(
            f"{manifest.ref} is no chat model; name checkpoints/instruct@VERSION or exports/instruct@VERSION"
        )
    folder = cache / f"{manifest.digest[:16]}-{VERSION}"
    if not folder.is_dir():
        _make(folder, store, manifest)
    facts = (folder / "README.md").read_text()
    return ServedModel(str(manifest.ref), folder, facts, _drawn(store, manifest))


def _of_folder(path: Path, cache: Path) -> ServedModel:
    """Return the model in a folder; one in our layout is exported beside the cache, anew each time."""
    path = path.resolve()
    config = path / "config.json"
    if not config.is_file():
        raise ManifestError(f"{path} has no config.json: it is no model; name a folder that holds one")
    card = path / "README.md"
    facts = card.read_text(errors="replace") if card.is_file() else ""
    if "image_context_token_id" not in json.loads(config.read_text()):
        return ServedModel(path.name, path, facts)
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="folder-", dir=cache))
    try:
        _export(path, folder, str(path))
        return ServedModel(path.name, folder, facts)
    except BaseException:  # also when somebody stops it
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _make(folder: Path, store: Store, manifest: Manifest) -> None:
    """Fill the cache's folder of an artifact; it appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        if manifest.ref.name == "exports/instruct":
            unpack(store, manifest, made)
        else:
            _export(fetch_chat(store, manifest, Path(scratch) / "checkpoint"), made, str(manifest.ref))
            card = model_card(f"InternVL-Chat: {manifest.ref}", CHAT_USAGE, manifest, [])
            (made / "README.md").write_text(card)
        if not folder.exists():  # another server may have been faster
            os.replace(made, folder)


def _export(folder: Path, target: Path, what: str) -> None:
    try:
        write_chat(folder, target, "native", ANSWER_TOKENS)
    except ManifestError:
        raise
    except ValueError as error:
        raise ManifestError(f"{what} cannot be exported for an engine: {error}") from error


def _drawn(store: Store, manifest: Manifest) -> bool:
    """Say whether a model was taught on our drawn scenes alone, as far as the store still knows."""
    version = manifest.ref.version
    if manifest.ref.name == "exports/instruct":
        checkpoint = find(store, Ref(name="checkpoints/instruct", version=version))
        if checkpoint is None or checkpoint.digest != manifest.identity.get("inputs", {}).get("checkpoints/instruct"):
            return False
        manifest = checkpoint
    data = find(store, Ref(name="conversations", version=version))
    if data is None or data.digest != manifest.identity.get("inputs", {}).get("conversations"):
        return False
    said = data.identity.get("parameters", {})
    return bool(said.get("scenes")) and not said.get("captions")


def tidy(model: ServedModel, cache: Path) -> None:
    """Remove what was exported for this one time: the cache keeps what artifacts became, by digest."""
    if model.folder.parent == cache and model.folder.name.startswith("folder-"):
        shutil.rmtree(model.folder, ignore_errors=True)
