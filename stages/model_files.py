"""Open a model in files, in whatever layout it is: which model it is, and that its weights are all there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import TextConfig
from models.layouts import refuse_layout, refuse_misfits
from models.pth_names import readable
from models.recognise import Model, Whose, describe
from models.renaming import State, shapes
from models.shapes import published, towers_from_shapes, vision_from_shapes
from models.sizes import SIZES
from stages.chat_template import IMG_CONTEXT
from stages.weight_files import on_meta, open_weights

_WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")
_LLAMA = "LlamaForCausalLM"
_NO_HEADS = (
    "no config.json is written: shapes do not tell the number of heads, and no published model has these; "
    "give the model's configuration with --config"
)


@dataclass(frozen=True)
class Source:
    """A model in files."""

    path: Path
    layout: Whose
    config: Model
    decoder: str
    weights: State
    complete: bool = True
    """Whether all of the configuration is known; the shapes of a lone `.pth` do not tell the heads."""
    note: str = ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, no configuration")
    return found


def _image_token(folder: Path) -> int | None:
    """Return the id of `<IMG_CONTEXT>` from a tokenizer's list of added tokens, None where there is none."""
    if (path := folder / "added_tokens.json").is_file():
        found = _json(path).get(IMG_CONTEXT)
        return found if isinstance(found, int) else None
    if (path := folder / "tokenizer.json").is_file():
        added = _json(path).get("added_tokens") or []
        return next((int(each["id"]) for each in added if each.get("content") == IMG_CONTEXT), None)
    return None


def open_source(path: Path, config: Path | None = None, image_token_id: int | None = None) -> Source:
    """Return a model in files, its weights left in them; all of the weights fit the configuration.

    Args:
        path: A folder with `config.json` and safetensors, or a `.pth`.
        config: Another place of its configuration, in any layout; of a `.pth`, the `.json` beside it is read
            when left out.
        image_token_id: Id of `<IMG_CONTEXT>`, where neither `config.json` nor the tokenizer tells it.

    Raises:
        FileNotFoundError: There is no such model.
        WeightsError: The weights are damaged, or not all of the model's and no others; all that differ are named.
        ValueError: The configuration is none that is known.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; name a folder with config.json and weights, or a .pth")
    lone = path.is_file()
    if lone and path.suffix not in _WEIGHTS:
        raise ValueError(f"{path} is no model; name a folder with config.json and weights, or a .pth")
    beside = config or (path.with_suffix(".json") if lone else path / "config.json")
    if not beside.is_file():
        if config or not lone or path.suffix == ".safetensors":
            raise FileNotFoundError(f"{beside} is missing; it says which model the weights are: give --config")
        return _by_shapes(path)
    given = _json(beside)
    token = image_token_id
    if token is None and "image_token_id" not in given:
        token = _image_token(path if path.is_dir() else path.parent)
    try:
        found = describe(given, token)
    except ValueError as error:
        raise ValueError(f"{beside}: {error}") from None
    if isinstance(found.config, TextConfig):
        raise ValueError(f"{beside} is of a language model alone; InternViT, InternVL and chat models are converted")
    layout: Whose = "pth" if lone and path.suffix != ".safetensors" else found.whose
    refuse_layout(layout, found.config)
    weights = open_weights(path)
    refuse_misfits(layout, on_meta(weights), found.config, found.decoder)
    return Source(path, layout, found.config, found.decoder, weights)


def _by_shapes(path: Path) -> Source:
    """Return a `.pth` without configuration: what its tensors tell.

    Raises:
        WeightsError: They are not all of a model's and no others; all that differ are named.
        ValueError: One that tells the model's shape is missing.
    """
    weights = open_weights(path)
    bare = on_meta(weights)
    told = shapes(readable(bare))
    towers = "text_projection" in told
    try:
        config: Model = towers_from_shapes(told) if towers else vision_from_shapes(told)
    except ValueError as error:
        raise ValueError(f"{path} is not known for InternViT or InternVL: {error}; give --config if it is") from None
    refuse_misfits("pth", bare, config, _LLAMA)
    same = published(told)
    if not same:
        return Source(path, "pth", config, _LLAMA, weights, complete=False, note=_NO_HEADS)
    known = SIZES[same[0]].towers if towers else SIZES[same[0]].vision
    note = f"taken for {same[0]}, whose shapes these are" + (f" ({', '.join(same[1:])} too)" if same[1:] else "")
    return Source(path, "pth", known or config, _LLAMA, weights, note=note)
