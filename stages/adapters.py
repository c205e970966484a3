"""Chat checkpoints that hold adapters alone, beside the name of their base; they are put together with it."""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from models.chat import InternVLChat
from models.lora import LANGUAGE_TARGETS, VISION_TARGETS, add_lora, added
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError, load
from stages.ref import Ref
from stages.weight_files import on_meta, open_weights, write_weights

DESCRIBED = "adapter_config.json"
"""Published beside the weights where these are adapters alone."""
ADAPTERS, BASE = "adapters", "base"
"""Folders below a fetched checkpoint of that kind."""


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

    def described(self) -> bytes:
        """Return what `DESCRIBED` holds."""
        return self.model_dump_json(indent=2).encode()


def adapted_by(folder: Path) -> Adapted:
    """Return what the adapters of a folder belong to."""
    return Adapted.model_validate_json((folder / DESCRIBED).read_bytes())


def holds_adapters(checkpoint: Manifest) -> bool:
    """Return whether a checkpoint's weights are adapters alone."""
    return DESCRIBED in checkpoint.parts[0].facts.get("names", {}).values()


def adapt(chat: InternVLChat, vision: int, language: int, dropout: float = 0.0) -> None:
    """Put adapters of these ranks into a chat model's towers, in place; 0 leaves a tower as it is."""
    towers = (
        (chat.vision_model.encoder.layers, VISION_TARGETS, vision, chat.vision_noise),
        (chat.language_model.model.layers, LANGUAGE_TARGETS, language, chat.language_noise),
    )
    for layers, targets, rank, noise in towers:
        if rank:
            add_lora(layers, targets, rank, dropout, noise)


def fetch_chat(store: Store, checkpoint: Manifest, folder: Path) -> Path:
    """Fetch a chat checkpoint; where it holds adapters alone, its base is fetched too and both become one model.

    Weights pass one by one, and come out in fp32. Of adapters the folder has the whole model, what was published in
    `ADAPTERS` below it, and the base in `BASE`.

    Raises:
        ManifestError: The base is gone, or is not the one that the adapters were trained on.
    """
    if not holds_adapters(checkpoint):
        return fetch(store, checkpoint, folder)
    learned = fetch(store, checkpoint, folder / ADAPTERS)
    adapted = adapted_by(learned)
    base = load(store, adapted.base)
    if base.digest != adapted.digest:
        raise ManifestError(
            f"{checkpoint.ref} adapts {adapted.base} as it was ({adapted.digest[:12]}) and another one stands there "
            f"now ({base.digest[:12]}); train it again, with lora.merge if bases come and go"
        )
    below = fetch_chat(store, base, folder / BASE)
    before, weights = open_weights(below), open_weights(learned)
    write_weights(added(before, weights), on_meta(added(on_meta(before), on_meta(weights))), folder)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(learned / name, folder / name)
    return folder
