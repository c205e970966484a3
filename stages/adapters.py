"""Chat checkpoints that hold adapters alone: written beside the name of their base, and put together with it."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save, save_file

from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig
from models.lora import LANGUAGE_TARGETS, VISION_TARGETS, adapters, add_lora, load_adapters, merged
from models.renaming import fill
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError, load
from stages.ref import Ref
from stages.weight_files import ONE_FILE, open_weights

WEIGHTS, DESCRIBED = "adapter.safetensors", "adapter_config.json"


class Adapted(BaseModel):
    """What adapters belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Ref
    digest: str
    """Of the base's manifest."""
    vision: int
    """Rank in the encoder; 0 where it has none."""
    language: int
    """Rank in the language model."""


def adapt(chat: InternVLChat, vision: int, language: int, dropout: float = 0.0) -> None:
    """Put adapters of these ranks into a chat model's towers, in place; 0 leaves a tower as it is."""
    towers = (
        (chat.vision_model.encoder.layers, VISION_TARGETS, vision, chat.vision_noise),
        (chat.language_model.model.layers, LANGUAGE_TARGETS, language, chat.language_noise),
    )
    for layers, targets, rank, noise in towers:
        if rank:
            add_lora(layers, targets, rank, dropout, noise)


def adapter_files(chat: InternVLChat, adapted: Adapted) -> dict[str, bytes]:
    """Return what a trained chat model has and its base has not: adapters, and parts that learned as a whole."""
    return {
        WEIGHTS: save({name: value.contiguous().cpu() for name, value in adapters(chat).items()}),
        DESCRIBED: adapted.model_dump_json(indent=2).encode(),
    }


def fetch_chat(store: Store, checkpoint: Manifest, folder: Path) -> Path:
    """Fetch a chat checkpoint; where it holds adapters alone, its base is fetched too and both become one model.

    Raises:
        ManifestError: The base is gone, or is not the one that the adapters were trained on.
    """
    fetch(store, checkpoint, folder)
    if not (folder / DESCRIBED).exists():
        return folder
    adapted = Adapted.model_validate(json.loads((folder / DESCRIBED).read_bytes()))
    base = load(store, adapted.base)
    if base.digest != adapted.digest:
        raise ManifestError(
            f"{checkpoint.ref} adapts {adapted.base} as it was ({adapted.digest[:12]}) and another one stands there "
            f"now ({base.digest[:12]}); train it again, with lora.merge if bases come and go"
        )
    below = fetch_chat(store, base, folder / "base")
    chat = InternVLChat(ChatConfig.model_validate_json((folder / "config.json").read_bytes()))
    fill(chat, open_weights(below), f"the base {adapted.base}")
    adapt(chat, adapted.vision, adapted.language)
    load_adapters(chat, load_file(folder / WEIGHTS))
    save_file({name: value.contiguous() for name, value in merged(chat).items()}, folder / ONE_FILE)
    return folder
