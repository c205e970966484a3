"""Tell from a `config.json` which model lies beside it: ours, the official code's, or transformers' own InternVL."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from models.composition import ChatPart, Language, Size
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import BY_LAYOUT, DECODERS, decoder_of, usual_decoder
from models.native_config import chat_from_native, vision_from_native
from models.official_config import chat_of, internvl_of, text_of, vision_of

Model = ChatConfig | InternVLConfig | VisionConfig
Config = Model | TextConfig
Whose = Literal["ours", "official", "native", "pth"]
"""Layouts of a model in files: `ours` is what our training leaves, `official` the remote code's, `native` that of
transformers' own InternVL, `pth` the first release's, which has no `config.json`."""


@dataclass(frozen=True)
class Described:
    """What a `config.json` says."""

    whose: Whose
    """In whose layout it is, and the weights beside it."""
    config: Config
    decoder: str = "LlamaForCausalLM"
    """Class of the language model in whose layout an official model's is, or was before it became another's."""
    source: str = ""
    """Where its language model comes from, if it says."""


def describe(given: Mapping[str, Any], image_token_id: int | None = None, strict: bool = True) -> Described:
    """Return what a configuration describes.

    `qllama_config` is asked before `model_type`: the official InternVL-14B and transformers' chat model
    share the type `internvl`, and the class name `InternVLModel`.

    Args:
        given: What `config.json` holds.
        image_token_id: Id of `<IMG_CONTEXT>`, which an official chat model's configuration does not hold.
        strict: Refuse what ours cannot compute; left out where parameters alone are counted.

    Raises:
        ValueError: The configuration is none of those, lacks a field, or holds a value that no such model has.
    """
    try:
        return _describe(given, image_token_id, strict)
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(map(str, wrong["loc"])) or error.title
        if wrong["type"] == "missing":
            raise ValueError(f"its config.json lacks {field!r}") from None
        raise ValueError(f"{field} of its config.json: {wrong['msg'].removeprefix('Value error, ')}") from None


def _describe(given: Mapping[str, Any], image_token_id: int | None, strict: bool) -> Described:
    kind = given.get("model_type")
    if "image_context_token_id" in given:
        ours = ChatConfig.model_validate(given)
        return Described("ours", ours, usual_decoder(ours.text))
    if "embed_dim" in given:
        return Described("ours", InternVLConfig.model_validate(given))
    if set(given) == {"text"}:
        text = TextConfig.model_validate(given["text"])
        return Described("ours", text, usual_decoder(text))
    if set(given) == {"vision"}:
        return Described("ours", VisionConfig.model_validate(given["vision"]))
    if "qllama_config" in given:
        return Described("official", internvl_of(given, strict))
    if "llm_config" in given or "text_config" in given:
        return _chat(given, image_token_id, strict)
    if kind == "intern_vit_6b":
        return Described("official", vision_of(given, strict))
    if kind == "internvl_vision":
        return Described("native", vision_of(vision_from_native(given), strict))
    if kind in {each.model_type for each in DECODERS.values()}:
        source = str(given.get("_name_or_path", ""))
        return Described("official", text_of(given, strict), decoder_of(given), source)
    raise ValueError(
        "its config.json is neither one of ours nor one of InternViT's, InternVL's or a language model's "
        f"(model_type {kind!r})"
    )


def _chat(given: Mapping[str, Any], image_token_id: int | None, strict: bool) -> Described:
    native = "llm_config" not in given
    fields = chat_from_native(given) if native else given
    token = given.get("image_token_id") if image_token_id is None else image_token_id
    if token is None:
        raise ValueError("its config.json does not tell the id of <IMG_CONTEXT>; give --image-token-id")
    spoken = fields["llm_config"]
    decoder = decoder_of(spoken)
    # Our conversion to the native class leaves it there, so that the way back is known.
    came = BY_LAYOUT.get(str(given.get("language_layout")))
    if native and came is not None:
        decoder = came.class_name
    config = chat_of(fields, strict, image_context_token_id=token)
    if config.text.qkv_bias != (decoder == "Qwen2ForCausalLM"):
        raise ValueError(f"language_layout {given.get('language_layout')!r} of its config.json is not its decoder's")
    return Described("native" if native else "official", config, decoder, str(spoken.get("_name_or_path", "")))


def recognise(name: str, given: Mapping[str, Any], weights: Collection[str] | None = None) -> Size:
    """Return the model that a configuration describes, to be counted.

    Args:
        name: How to call it.
        given: What `config.json` holds.
        weights: Names of its tensors, where they are known: InternVL-C and -G differ by them alone; without
            them the model is taken to have all that its configuration allows.

    Raises:
        ValueError: The configuration is of no such model, lacks a field, or holds a value that none has.
    """
    try:
        found = describe(given, image_token_id=given.get("image_token_id", 0), strict=False)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    config = found.config
    if isinstance(config, VisionConfig):
        return Size(name=name, kind="vision", vision=config)
    if isinstance(config, InternVLConfig):
        kind = "contrastive" if weights is not None and "query_tokens" not in weights else "generative"
        return Size(name=name, kind=kind, vision=config.vision, towers=config)
    text = config.text if isinstance(config, ChatConfig) else config
    # Ours holds every language model under LLaMA's names, and transformers' own all but Phi-3's.
    layout = DECODERS[found.decoder if found.whose == "official" else usual_decoder(text)].layout
    if found.whose == "ours" and layout == "phi3":
        layout = "llama"
    language = Language(source=found.source, layout=layout, shape=text)
    if isinstance(config, TextConfig):
        return Size(name=name, kind="language", language=language)
    part = {field: value for field, value in config.model_dump().items() if field in ChatPart.model_fields}
    return Size(
        name=name, kind="chat", vision=config.vision, towers=config.towers, language=language, chat=ChatPart(**part)
    )
