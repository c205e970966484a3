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


def load_chat(folder: Path, told: Told = silent) -> tuple[InternVLChat, Tokenizer]:
    """Return the chat model and the tokenizer of a folder; every weight is checked before the first is read.

    On a GPU the model keeps the type it is stored in; without one it computes in float32.

    Raises:
        ManifestError: It holds no chat model, or no tokenizer that can be read.
        WeightsError: The weights are not all of the model's and no others.
        ValueError: Its configuration cannot be computed here.
    """
    given = folder / "config.json"
    if not given.is_file():
        raise ManifestError(f"{folder} has no config.json; name the folder of a chat model, or an artifact")
    if not _FIELDS & json.loads(given.read_bytes()).keys():
        raise ManifestError(f"{folder} holds no chat model: talk to one that stage instruct made")
    source = open_source(folder)
    assert isinstance(source.config, ChatConfig), "one of those fields makes it one"
    tokenizer = _tokenizer(folder)
    with torch.device("meta"):
        model = InternVLChat(_talked_to(source, json.loads(given.read_bytes())))
    weights = from_layout(source.layout, source.weights, source.config, source.decoder)
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


def _tokenizer(folder: Path) -> Tokenizer:
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


def _talked_to(source: Source, given: dict[str, object]) -> ChatConfig:
    """Return the configuration; the official code keeps each template's system message in itself, not in the file."""
    config = source.config
    assert isinstance(config, ChatConfig)
    if source.layout != "official" or given.get("system_message") is not None:
        return config
    return config.model_copy(update={"system_message": SYSTEM_MESSAGES.get(config.template, "")})
