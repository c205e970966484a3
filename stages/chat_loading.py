"""A chat model from files, in whatever layout they are: ours, the official code's, or transformers' own."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer

from models.chat import InternVLChat
from models.config import ChatConfig
from models.layouts import from_layout
from models.renaming import State
from stages.chat_template import SYSTEM_MESSAGES
from stages.manifest import ManifestError
from stages.model_files import Source, open_source

Told = Callable[[int, int], None]
"""Is told (tensors read, tensors in all)."""
_FIELDS = {"image_context_token_id", "llm_config", "text_config"}  # ours, official, native: one of them is there


def silent(_done: int, _total: int) -> None:
    """Tell nobody."""


def is_chat(folder: Path) -> bool:
    """Return whether a folder's `config.json` is a chat model's, in whatever layout.

    Raises:
        ManifestError: It has none, or there is no such folder.
    """
    given = folder / "config.json"
    if not folder.is_dir():
        raise ManifestError(f"there is no folder {folder}; name the folder of a model, or an artifact name@version")
    if not given.is_file():
        raise ManifestError(f"{folder} has no config.json; name the folder of a model, or an artifact name@version")
    return bool(_FIELDS & json.loads(given.read_bytes()).keys())


def open_chat(folder: Path) -> tuple[Source, ChatConfig]:
    """Return the chat model of a folder, its weights checked and left in their files, and its shape.

    Raises:
        ManifestError: It holds no chat model.
        WeightsError: The weights are not all of the model's and no others.
        ValueError: Its configuration cannot be computed here.
    """
    if not is_chat(folder):
        raise ManifestError(f"{folder} holds no chat model: name one that stage instruct made")
    source = open_source(folder)
    fields = json.loads((folder / "config.json").read_bytes())
    config = source.config
    assert isinstance(config, ChatConfig), "one of those fields makes it one"
    if source.layout == "official" and fields.get("system_message") is None:
        # The official code keeps each template's in itself, not in the file.
        config = config.model_copy(update={"system_message": SYSTEM_MESSAGES.get(config.template, "")})
    return source, config


def open_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder.

    Raises:
        ManifestError: It is missing, or cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ManifestError(
            f"{folder} has no tokenizer.json; transformers writes one: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ManifestError(f"{path} cannot be read as a tokenizer: {error}; copy it anew") from error


def load_chat(folder: Path, told: Told = silent) -> tuple[InternVLChat, Tokenizer]:
    """Return the chat model and the tokenizer of a folder; every weight is checked before the first is read.

    On a GPU the model keeps the type it is stored in; without one it computes in float32.

    Raises:
        ManifestError: It holds no chat model, or no tokenizer that can be read.
        WeightsError: The weights are not all of the model's and no others.
        ValueError: Its configuration cannot be computed here.
    """
    source, config = open_chat(folder)
    tokenizer = open_tokenizer(folder)
    with torch.device("meta"):
        model = InternVLChat(config)
    weights = from_layout(source.layout, source.weights, config, source.decoder)
    model.load_state_dict(_read(weights, list(model.state_dict()), told), assign=True)
    return model.eval(), tokenizer


def _read(weights: State, names: list[str], told: Told) -> dict[str, torch.Tensor]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {}
    for number, name in enumerate(names):
        told(number, len(names))
        found[name] = weights[name].to(device, None if device.type == "cuda" else torch.float32)
    told(len(names), len(names))
    return found
