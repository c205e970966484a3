"""The text files beside a chat model's weights, in the formats that transformers reads without remote code."""

import json
from collections.abc import Sequence
from typing import Any

from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from stages.chat_template import IMG_CONTEXT, IMG_END, IMG_START, template_named
from stages.manifest import Manifest

BICUBIC = 3  # PIL's number of the resampling method


def json_bytes(value: Any) -> bytes:
    """Return indented JSON with sorted keys and a line end."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def tokenizer_config(
    eos_token: str, *, bos_token: str, pad_token: str, unk_token: str, context: int
) -> dict[str, Any]:
    """Return `tokenizer_config.json`: a fast tokenizer that adds nothing by itself.

    The picture tokens carry the names under which transformers' InternVL processor asks for
    them. It also asks for a video token, which must not be in a text without videos: this model
    knows no videos, so it is the unknown token.
    """
    named = {
        "start_image_token": IMG_START,
        "end_image_token": IMG_END,
        "context_image_token": IMG_CONTEXT,
        "video_token": unk_token,
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos_token,
        "eos_token": eos_token,
        "pad_token": pad_token,
        "unk_token": unk_token,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "extra_special_tokens": named,
        "processor_class": "InternVLProcessor",
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

    A picture in a turn is `<IMG_CONTEXT>` and a line end, which the processor expands.

    Args:
        name: Name of a template.
        system_message: What the system turn says unless the conversation brings its own.

    Raises:
        TemplateError: There is no such template.
    """
    template = template_named(name)

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    def turn(before: str, after: str) -> str:
        return "{{ " + quoted(before) + " ~ said(message['content']) ~ " + quoted(after) + " }}"

    before, _, after = template.system.partition("{system_message}")
    trimmed = " | trim" if template.strip else ""
    pieces = [
        "{%- macro said(content) -%}",
        "{%- if content is string -%}{{ content" + trimmed + " }}",
        "{%- else -%}{%- for part in content -%}",
        "{%- if part['type'] == 'image' -%}{{ " + quoted(IMG_CONTEXT + "\n") + " }}",
        "{%- elif part['type'] == 'text' -%}{{ part['text']" + trimmed + " }}{%- endif -%}",
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


def model_card(title: str, usage: str, checkpoint: Manifest, evaluations: Sequence[Manifest]) -> str:
    """Return README.md: what this is, how to load it, and the digests of everything it was made from."""
    lines = [
        "---",
        "library_name: transformers",
        "tags: [internvl]",
        "---",
        f"# {title}",
        "",
        "Trained by internvl-pipeline, an open reproduction of InternVL (arXiv 2312.14238).",
        "",
        "## Use",
        "",
        usage,
        "",
        "## Made from",
        "",
        "| what | artifact | digest |",
        "| :-- | :-- | :-- |",
        f"| checkpoint | {checkpoint.ref} | `{checkpoint.digest}` |",
    ]
    for name, digest in sorted(checkpoint.identity.get("inputs", {}).items()):
        lines.append(f"| its input | {name} | `{digest}` |")
    for manifest in evaluations:
        lines.append(f"| evaluation | {manifest.ref} | `{manifest.digest}` |")
    lines += ["", "## Recipe", "", "Stage, code version and parameters of the checkpoint:", "", "```json"]
    recipe = {key: checkpoint.identity.get(key) for key in ("stage", "code", "parameters")}
    lines += [json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False), "```", "", "## Evaluation", ""]
    tables = [str(manifest.totals["markdown"]) for manifest in evaluations if "markdown" in manifest.totals]
    lines.append("\n\n".join(tables) if tables else "Not evaluated when it was exported.")
    return "\n".join(lines) + "\n"
