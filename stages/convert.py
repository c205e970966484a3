"""Turn published weights into the formats of others, tensor by tensor, whatever their size."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.chat import InternVLChat
from models.intern_vit import InternVisionModel
from models.native_config import native_chat_config, native_decoder, native_vision_config
from models.official_config import chat_of, decoder_of, vision_of
from models.pth_names import encoder_from_pth, towers_from_pth
from models.renaming import State, differences, refuse, shapes
from models.shapes import build
from models.weights import chat_from_official, chat_to_native, layout_of, vision_to_native
from stages.chat_template import IMG_CONTEXT
from stages.weight_files import SHARD_BYTES, on_meta, open_weights, write_weights

HEAD = "qllama.lm_head.weight"
"""Of the text tower; InternVL-C never uses it, and the first release's file leaves it out."""


def convert(
    source: Path, target: Path, change: Callable[[State], State], shard_bytes: int = SHARD_BYTES
) -> dict[str, torch.Tensor]:
    """Write changed weights; no more than a few tensors are in memory at any time.

    Args:
        source: A folder or a file of weights.
        target: The folder to write to.
        change: A conversion of names and pieces, applied to the weights' shapes first and then to their numbers.
        shard_bytes: Most bytes of one file.

    Returns:
        The written weights without their numbers.

    Raises:
        WeightsError: The conversion does not fit the weights; all that is wrong is named.
    """
    weights = open_weights(source)
    described = dict(change(on_meta(weights)))
    write_weights(change(weights), described, target, shard_bytes)
    return described


def _fits(make: Callable[[], nn.Module], weights: State, what: str) -> None:
    """Refuse weights that are not a model's, all differences named; the model is built on the meta device."""
    with torch.device("meta"):
        expected = shapes(make().state_dict())
    refuse(differences(expected, shapes(weights)), what)


def _image_token(source: Path) -> int:
    """Return the id of `<IMG_CONTEXT>` from the tokenizer's list of added tokens.

    Raises:
        ValueError: It is not there.
    """
    path = source / "added_tokens.json"
    found = json.loads(path.read_bytes()).get(IMG_CONTEXT) if path.is_file() else None
    if not isinstance(found, int):
        raise ValueError(
            f"{path} does not tell the id of {IMG_CONTEXT}, and config.json cannot; give --image-token-id"
        )
    return found


def to_native(source: Path, target: Path, image_token_id: int | None = None, shard_bytes: int = SHARD_BYTES) -> None:
    """Write an official InternViT or chat model as transformers' own class reads it, without remote code.

    Args:
        source: A folder with `config.json` and weights.
        target: The folder to write `config.json` and weights to; a tokenizer is not among them.
        image_token_id: Id of `<IMG_CONTEXT>` in a chat model's tokenizer, as its configuration does not hold it;
            looked up in `added_tokens.json` when left out.
        shard_bytes: Most bytes of one file.

    Raises:
        ValueError: transformers has no class for it, or cannot compute the same, or the weights do not fit.
    """
    config = json.loads((source / "config.json").read_bytes())
    layout = layout_of(config)
    weights = on_meta(open_weights(source))
    if layout == "official_vision":
        shape = vision_of(config)
        _fits(lambda: InternVisionModel(shape), weights, "InternViT")
        native = native_vision_config(shape)
        described = convert(source, target, vision_to_native, shard_bytes)
    elif layout == "official_chat":
        given = _image_token(source) if image_token_id is None else image_token_id
        native, change = _chat(config, given, weights)
        described = convert(source, target, change, shard_bytes)
    else:
        raise ValueError(
            f"{source} is of the layout {layout!r}; only official InternViT and chat models become native"
        )
    dtype = next(iter(described.values())).dtype
    native["dtype"] = str(dtype).removeprefix("torch.")
    (target / "config.json").write_text(json.dumps(native, indent=2, sort_keys=True) + "\n")


def _chat(
    config: Mapping[str, Any], image_token_id: int, weights: State
) -> tuple[dict[str, Any], Callable[[State], State]]:
    """Return the native configuration of an official chat model, and the conversion of its weights."""
    shape = chat_of(config, image_context_token_id=image_token_id)
    decoder = decoder_of(config["llm_config"])
    native = native_chat_config(
        shape.vision,
        shape.text,
        image_token_id=image_token_id,
        downsample_ratio=shape.downsample_ratio,
        ps_version=shape.ps_version,
        select_layer=shape.select_layer,
        eos_token_id=shape.eos_token_id,
    )
    _fits(lambda: InternVLChat(shape), chat_from_official(weights, decoder, shape.text), "the chat model")
    return native, lambda given: chat_to_native(
        chat_from_official(given, decoder, shape.text), native_decoder(shape.text)
    )


def from_first_release(source: Path, target: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `intern_vit_6b_224px.pth` or `internvl_c_13b_224px.pth` as safetensors under the official names.

    The text tower's head is not in the second file, and not in what is written: nothing of InternVL-C uses it.
    A configuration is not in either of them, and none is written.

    Raises:
        WeightsError: The file holds other weights, or not all of a model's; all that differ are named.
        ValueError: A tensor that tells the model's shape is missing.
    """
    names = on_meta(open_weights(source))
    towers = any(name.startswith("transformer.") for name in names)
    change = towers_from_pth if towers else encoder_from_pth
    found = shapes(change(names))
    what = "InternVL-C" if towers else "InternViT"
    refuse(differences(shapes(build(found)), found, optional=(HEAD,)), what)
    convert(source, target, change, shard_bytes)
