"""A chat model as a folder that others load: transformers' own classes where they do the same, else the official."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from models.config import ChatConfig
from models.layouts import config_in
from stages.chat import STOP_TOKENS
from stages.chat_loading import open_chat, open_tokenizer
from stages.chat_template import IMG_CONTEXT, template_named
from stages.convert import convert
from stages.export_native import (
    Words,
    chat_template,
    image_processor_config,
    json_bytes,
    processor_config,
    tokenizer_config,
)
from stages.manifest import ManifestError
from stages.model_files import Source
from stages.tokenizer import UNK
from stages.weight_files import SHARD_BYTES

Layout = Literal["auto", "native", "official"]


@dataclass(frozen=True)
class Written:
    """What was written: in which layout, and where it is not transformers' own, why not."""

    layout: Literal["native", "official"]
    config: ChatConfig
    why: str = ""


def write_chat(
    source: Path, target: Path, layout: Layout = "auto", max_new_tokens: int = 64, shard_bytes: int = SHARD_BYTES
) -> Written:
    """Write a chat model and all that one needs to talk to it, tensor by tensor, whatever its size.

    Args:
        source: A folder in any layout, with a tokenizer.
        target: A new or empty folder.
        layout: `auto` is transformers' own where it computes the same, and the official one elsewhere.
        max_new_tokens: Of `generation_config.json`: most tokens of an answer, when nobody says more.
        shard_bytes: Most bytes of one file of weights.

    Raises:
        ManifestError: The tokenizer is missing, or is not this model's.
        ValueError: It is no chat model, or there is no such layout of it.
    """
    opened, config = open_chat(source)
    words = _words(open_tokenizer(source), config)
    why = _not_native(opened, config)
    if why:
        try:
            config_in("official", config, opened.decoder)
        except ValueError as error:
            both = why if str(error) == why else f"{why}; nor is there an official layout of it: {error}"
            raise ValueError(both) from error
    if layout == "native" and why:
        raise ValueError(f"{why}; or export it in the layout official")
    chosen: Literal["native", "official"] = "official" if layout == "official" or why else "native"
    convert(source, target, chosen, shard_bytes=shard_bytes)
    for name, data in _texts(target, config, words, chosen, max_new_tokens).items():
        (target / name).write_bytes(data)
    return Written(chosen, config, why if layout == "auto" else "")


def _not_native(source: Source, config: ChatConfig) -> str:
    """Return why transformers' own class or its processor does not do the same, and what would; empty if they do."""
    try:
        config_in("native", config, source.decoder)
    except ValueError as error:
        return str(error)
    if config.max_dynamic_patch > 1 and not config.use_thumbnail:
        return (
            f"use_thumbnail False with max_dynamic_patch {config.max_dynamic_patch}: transformers' processor always "
            "adds the thumbnail; train with use_thumbnail=True, or with max_dynamic_patch=1"
        )
    return ""


def _words(tokenizer: Tokenizer, config: ChatConfig) -> Words:
    """Return the tokens of a model that have a meaning of their own.

    Raises:
        ManifestError: The tokenizer lacks one of them.
    """
    template = template_named(config.template)
    if _id(tokenizer, IMG_CONTEXT) != config.image_context_token_id:
        raise ManifestError(
            f"config.json and tokenizer.json disagree about {IMG_CONTEXT}; train the checkpoint again"
        )
    # A shape that was read from elsewhere holds LLaMA's ids: they count only where they are no usual words.
    marks = {number: str(token.content) for number, token in tokenizer.get_added_tokens_decoder().items()}
    bos = marks.get(config.text.bos_token_id)
    if template.bos and bos is None:
        raise ManifestError(
            f"template {config.template} begins with a token that the tokenizer has not: id "
            f"{config.text.bos_token_id} is no special one; put the language model's bos_token_id into config.json"
        )
    pad = marks.get(config.eos_token_id)
    ends = [tokenizer.token_to_id(token) for token in (template.end, *STOP_TOKENS)]
    return Words(
        end=template.end,
        end_id=_id(tokenizer, template.end),
        bos=bos,
        bos_id=None if bos is None else config.text.bos_token_id,
        pad=pad or template.end,
        pad_id=_id(tokenizer, pad or template.end),
        unk=UNK if UNK in marks.values() else None,
        stops=tuple(sorted({number for number in ends if number is not None})),
    )


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ManifestError(f"the checkpoint's tokenizer has no token {token!r}; train the checkpoint again")
    return int(found)


def _texts(
    target: Path, config: ChatConfig, words: Words, layout: Literal["native", "official"], max_new_tokens: int
) -> dict[str, bytes]:
    """Return the files beside the weights: shape, tokens, pictures, and how an answer is made."""
    fields: dict[str, Any] = json.loads((target / "config.json").read_bytes())
    fields["system_message"] = config.system_message
    ids = {"bos_token_id": words.bos_id, "eos_token_id": words.end_id, "pad_token_id": words.pad_id}
    fields["text_config" if layout == "native" else "llm_config"] |= ids
    generation = {"do_sample": False, "max_new_tokens": max_new_tokens, **ids, "eos_token_id": list(words.stops)}
    files = {
        "config.json": fields,
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer_config(words, config.context_length, layout == "native"),
    }
    image = image_processor_config(config.vision.image_size, config.min_dynamic_patch, config.max_dynamic_patch)
    if layout == "native":
        files |= {
            "preprocessor_config.json": image,
            "processor_config.json": processor_config(image, config.num_image_token),
        }
    written = {name: json_bytes(value) for name, value in files.items()}
    written["chat_template.jinja"] = chat_template(config.template, config.system_message).encode()
    return written
