"""The text files beside a chat model's weights, in the formats that transformers reads without remote code."""

import json
from dataclasses import dataclass
from typing import Any

from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from stages.chat_template import IMG_CONTEXT, IMG_END, IMG_START, VIDEO, template_named

BICUBIC = 3  # PIL's number of the resampling method


def json_bytes(value: Any) -> bytes:
    """Return indented JSON with sorted keys and a line end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True)
class Words:
    """The tokens of a chat model that have a meaning of their own; None where it has no such."""

    end: str
    end_id: int
    bos: str | None
    bos_id: int | None
    pad: str
    pad_id: int
    unk: str | None
    stops: tuple[int, ...]
    """Any of these ends an answer."""


def tokenizer_config(words: Words, context: int, native: bool = True) -> dict[str, Any]:
    """Return `tokenizer_config.json`: a fast tokenizer that adds nothing by itself.

    The picture tokens carry the names under which transformers' InternVL processor asks for
    them. It also asks for a token that stands for a video, and replaces it before any text becomes tokens.

    Args:
        words: Of the model.
        context: Most tokens of a conversation.
        native: For that processor; the official code asks for tokens by their text.
    """
    named = {
        "start_image_token": IMG_START,
        "end_image_token": IMG_END,
        "context_image_token": IMG_CONTEXT,
        "video_token": VIDEO,
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": words.bos,
        "eos_token": words.end,
        "pad_token": words.pad,
        "unk_token": words.unk,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        **({"extra_special_tokens": named, "processor_class": "InternVLProcessor"} if native else {}),
    }


def image_processor_config(image_size: int, min_tiles: int = 1, max_tiles: int = 1) -> dict[str, Any]:
    """Return how a picture becomes `pixel_values`: squashed to squares, bicubic, ImageNet's mean and deviation.

    transformers' InternVL processor cuts tiles whatever `crop_to_patches` says; with one tile
    at most there is nothing to cut.
    """
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": max_tiles > 1,
        "min_patches": min_tiles,
        "max_patches": max_tiles,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": image_size, "width": image_size},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }


def processor_config(image: dict[str, Any], tokens_per_image: int) -> dict[str, Any]:
    """Return `processor_config.json` of transformers' InternVL processor, which also wants one for videos."""
    tiles = ("image_processor_type", "crop_to_patches", "min_patches", "max_patches")
    video = {key: value for key, value in image.items() if key not in tiles}
    return {
        "processor_class": "InternVLProcessor",
        "image_seq_length": tokens_per_image,
        "image_processor": image,
        "video_processor": {**video, "video_processor_type": "InternVLVideoProcessor"},
    }


def chat_template(name: str, system_message: str) -> str:
    """Return one of our conversation templates as Jinja, for `apply_chat_template`.

    A picture in a turn is `<IMG_CONTEXT>` and a line end, which the processor expands, and a video `<video>` and
    a line end. Several pictures of a conversation are numbered as in training, `Image-1: `, but for those that the
    text before them names: it ends with a colon.

    Args:
        name: Name of a template.
        system_message: What the system turn says unless the conversation brings its own.

    Raises:
        TemplateError: There is no such template.
    """
    template = template_named(name)

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    trimmed = " | trim" if template.strip else ""

    def turn(before: str, after: str) -> str:
        return "{{ " + quoted(before) + " ~ said(message['content'])" + trimmed + " ~ " + quoted(after) + " }}"

    before, _, after = template.system.partition("{system_message}")
    pieces = [
        "{%- set seen = namespace(pictures=0, number=0, named=false) -%}",
        "{%- for message in messages -%}{%- if message['content'] is not string -%}",
        "{%- for part in message['content'] if part['type'] == 'image' -%}",
        "{%- set seen.pictures = seen.pictures + 1 -%}",
        "{%- endfor -%}{%- endif -%}{%- endfor -%}",
        "{%- macro said(content) -%}",
        "{%- if content is string -%}{{ content }}",
        "{%- else -%}{%- set seen.named = false -%}{%- for part in content -%}",
        "{%- if part['type'] == 'image' -%}{%- set seen.number = seen.number + 1 -%}",
        "{{ ('Image-' ~ seen.number ~ ': ' if seen.pictures > 1 and not seen.named else '') ~ ",
        quoted(IMG_CONTEXT + "\n") + " }}{%- set seen.named = false -%}",
        "{%- elif part['type'] == 'video' -%}{{ " + quoted(VIDEO + "\n") + " }}{%- set seen.named = false -%}",
        "{%- elif part['type'] == 'text' -%}{{ part['text'] }}",
        "{%- set seen.named = (part['text'] | trim).endswith(':') -%}{%- endif -%}",
        "{%- endfor -%}{%- endif -%}",
        "{%- endmacro -%}",
        "{{ bos_token }}" if template.bos else "",
        "{{ " + quoted(before) + " }}",
        "{%- if messages and messages[0]['role'] == 'system' -%}{{ said(messages[0]['content']) }}",
        "{%- else -%}{{ " + quoted(system_message) + " }}{%- endif -%}",
        "{{ " + quoted(after + template.system_end) + " }}",
        "{%- for message in messages -%}",
        "{%- if message['role'] == 'user' -%}" + turn(template.human + template.opener, template.human_end),
        "{%- elif message['role'] == 'assistant' -%}",
        turn(template.assistant + template.opener, template.end + template.gap),
        "{%- endif -%}",
        "{%- endfor -%}",
        "{%- if add_generation_prompt -%}",
        "{{ " + quoted(template.assistant + template.opener.rstrip()) + " }}",
        "{%- endif -%}",
    ]
    return "".join(pieces) + "\n"
