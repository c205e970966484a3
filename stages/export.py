"""Write a trained model in formats that others load: transformers' own InternVL, and the official layout.

A chat model becomes one folder for `transformers.InternVLForConditionalGeneration`, which needs no
remote code. InternVL-C and InternVL-G have no such class: their weights keep the official names with
the official `config.json`, and the vision tower alone becomes a `transformers.InternVLVisionModel`.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save
from tokenizers import Tokenizer

from infra.storage import Store
from models.config import ChatConfig, InternVLConfig
from models.native_config import native_chat_config, native_decoder, native_vision_config
from models.official_config import official_config
from models.renaming import State, below
from models.weights import chat_to_native, vision_to_native
from stages.chat_template import IMG_CONTEXT, template_named
from stages.checkpoints import FINAL, fetch
from stages.export_native import (
    chat_template,
    image_processor_config,
    json_bytes,
    model_card,
    processor_config,
    tokenizer_config,
)
from stages.manifest import Ledger, Manifest, ManifestError, digest_of
from stages.tokenizer import UNK
from stages.weight_files import open_weights
from stages.workspace import Output, Workspace

VERSION = 2

CHAT_USAGE = """```python
from transformers import AutoProcessor, InternVLForConditionalGeneration

model = InternVLForConditionalGeneration.from_pretrained(FOLDER)
processor = AutoProcessor.from_pretrained(FOLDER)
turn = {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": QUESTION}]}
inputs = processor.apply_chat_template(
    [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
print(processor.decode(answer, skip_special_tokens=True))
```

The processor cuts the same tiles as in training and resizes them with torchvision: most pixels are the same, others
one or two grey levels off, in pictures of noise up to ten. For the very pixels of training:

```python
from transformers import GotOcr2ImageProcessorPil

processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(FOLDER)
```"""
TOWERS_USAGE = """`model.safetensors` and `config.json` hold the whole model under the weight names and configuration
fields of the official InternVL-14B-224px. transformers has no class of its own for it, and its
`model_type` `internvl` means the chat model there: load it with the official code, or with ours.
Without queries (InternVL-C) the official class is to be loaded with `strict=False`. A text whose vector
is asked for begins with `<s>summarize:` and ends with `</s>`.

The vision tower loads without remote code:

```python
from transformers import InternVLVisionModel

vision = InternVLVisionModel.from_pretrained(FOLDER + "/vision")
```"""


class Parameters(BaseModel):
    """Which trained model is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["contrastive", "generative", "instruct"] = Field(
        description="Whose checkpoint is written: `checkpoints/<kind>`, the stage's input."
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="Of `generation_config.json`: most tokens of an answer, when nobody says more."
    )


def tensors(weights: State) -> bytes:
    """Return a safetensors file that transformers accepts; the same weights give the same bytes."""
    return bytes(save({name: value.contiguous() for name, value in weights.items()}, metadata={"format": "pt"}))


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return a token's id.

    Raises:
        ManifestError: The tokenizer does not know it.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ManifestError(f"the checkpoint's tokenizer has no token {token!r}; train the checkpoint again")
    return int(found)


def chat_files(folder: Path, max_new_tokens: int) -> dict[str, bytes]:
    """Return a chat checkpoint as file name to bytes, in transformers' native format.

    Raises:
        ValueError: The native class cannot compute the same, or its processor not cut the same tiles.
    """
    config = ChatConfig.model_validate_json((folder / "config.json").read_bytes())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = template_named(config.template).end
    bos, pad = (str(tokenizer.id_to_token(each)) for each in (config.text.bos_token_id, config.eos_token_id))
    unk = UNK if tokenizer.token_to_id(UNK) is not None else pad  # Qwen2's vocabulary has none
    stops = sorted({token_id(tokenizer, end), config.eos_token_id})
    ids = {"bos_token_id": token_id(tokenizer, bos), "pad_token_id": config.eos_token_id}
    if token_id(tokenizer, IMG_CONTEXT) != config.image_context_token_id:
        raise ManifestError(f"config.json and tokenizer.json of {folder.name} disagree about {IMG_CONTEXT}")
    if config.max_dynamic_patch > 1 and not config.use_thumbnail:
        raise ValueError(
            f"use_thumbnail False with max_dynamic_patch {config.max_dynamic_patch}: transformers' processor always "
            "adds the thumbnail; train with use_thumbnail=True, or with max_dynamic_patch=1"
        )
    image = image_processor_config(config.vision.image_size, config.min_dynamic_patch, config.max_dynamic_patch)
    native = native_chat_config(
        config.vision,
        config.text,
        image_token_id=config.image_context_token_id,
        downsample_ratio=config.downsample_ratio,
        ps_version=config.ps_version,
        select_layer=config.select_layer,
        eos_token_id=token_id(tokenizer, end),
        **ids,
    )
    generation = {"do_sample": False, "max_new_tokens": max_new_tokens, "eos_token_id": stops, **ids}
    said = tokenizer_config(end, bos_token=bos, pad_token=pad, unk_token=unk, context=config.context_length)
    weights = chat_to_native(open_weights(folder), native_decoder(config.text))
    return {
        "model.safetensors": tensors(weights),
        "config.json": json_bytes(native),
        "generation_config.json": json_bytes(generation),
        "tokenizer.json": (folder / "tokenizer.json").read_bytes(),
        "tokenizer_config.json": json_bytes(said),
        "preprocessor_config.json": json_bytes(image),
        "processor_config.json": json_bytes(processor_config(image, config.num_image_token)),
        "chat_template.jinja": chat_template(config.template, config.system_message).encode(),
    }


def tower_files(folder: Path) -> dict[str, bytes]:
    """Return InternVL-C or InternVL-G as file name to bytes: the official layout, and the vision tower natively.

    Raises:
        ValueError: The native vision class cannot compute the same.
    """
    config = InternVLConfig.model_validate_json((folder / "config.json").read_bytes())
    weights = open_weights(folder)
    return {
        "model.safetensors": tensors(weights),
        "config.json": json_bytes(official_config(config)),
        "tokenizer.json": (folder / "tokenizer.json").read_bytes(),
        "preprocessor_config.json": json_bytes(image_processor_config(config.vision.image_size)),
        "vision/model.safetensors": tensors(vision_to_native(below(weights, "vision_model."))),
        "vision/config.json": json_bytes(native_vision_config(config.vision)),
        "vision/preprocessor_config.json": json_bytes(image_processor_config(config.vision.image_size)),
    }


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Write the files of one checkpoint; `unpack` brings them back under their plain names.

    Raises:
        ManifestError: The checkpoint cannot be read, or transformers cannot compute the same.
    """
    checkpoint = here.input(f"checkpoints/{parameters.kind}")
    evaluations = here.all("evaluations")
    digest = digest_of({name: manifest.digest for name, manifest in here.inputs.items()})
    folder = fetch(here.store, checkpoint, here.scratch / "checkpoint")
    chat = parameters.kind == "instruct"
    try:
        files = chat_files(folder, parameters.max_new_tokens) if chat else tower_files(folder)
    except ValidationError as error:
        raise ManifestError(
            f"config.json of {checkpoint.ref} is not one of this version's: {error.error_count()} fields differ; "
            f"train it again, or export it with the version that trained it"
        ) from error
    except ValueError as error:
        raise ManifestError(f"{checkpoint.ref} cannot be exported: {error}") from error
    title = f"{'InternVL-Chat' if chat else 'InternVL'}: {checkpoint.ref}"
    files["README.md"] = model_card(title, CHAT_USAGE if chat else TOWERS_USAGE, checkpoint, evaluations).encode()
    count, parameter_count = _size(files["model.safetensors"])
    names = {name.replace("/", "__").replace(".", "_"): name for name in files}
    ledger = Ledger(listed=count, kept=count)
    part = output.part(
        FINAL, digest, ledger, {role: (name, files[name]) for role, name in names.items()}, {"names": names}
    )
    totals: dict[str, Any] = {"tensors": count, "parameters": parameter_count, "files": len(files)}
    return output.commit([part], totals={**totals, "markdown": _markdown(files)})


def _size(safetensors: bytes) -> tuple[int, int]:
    """Return (tensors, numbers in them) as they stand in a safetensors file's head."""
    length = int.from_bytes(safetensors[:8], "little")
    head: dict[str, Any] = json.loads(safetensors[8 : 8 + length])
    shapes = [entry["shape"] for name, entry in head.items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        numbers = 1
        for side in shape:
            numbers *= side
        total += numbers
    return len(shapes), total


def _markdown(files: Mapping[str, bytes]) -> str:
    lines = ["| file | bytes |", "| :-- | --: |"]
    return "\n".join(lines + [f"| {name} | {len(data):,} |" for name, data in sorted(files.items())])


def unpack(store: Store, manifest: Manifest, folder: Path) -> Path:
    """Write an export's files into a folder under their plain names, each hash checked.

    Raises:
        ManifestError: A file differs from the manifest, or its name would lead out of the folder.
    """
    for name in manifest.parts[0].facts["names"].values():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ManifestError(f"{manifest.ref} names a file {name!r} outside its folder; export it again")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return fetch(store, manifest, folder)
