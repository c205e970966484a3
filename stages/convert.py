"""Bring a model from the layout of one code into another's, tensor by tensor, whatever its size."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from models.config import ChatConfig, InternVLConfig
from models.decoders import BY_LAYOUT
from models.layouts import config_in, from_layout, name_of, to_layout
from models.pth_names import HEAD, generative
from models.recognise import Whose
from models.renaming import State
from stages.model_files import Source, open_source
from stages.pth_files import write_pth
from stages.weight_files import SHARD_BYTES, on_meta, write_weights

VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
"""Files that say the same to every code, and are copied."""
_OF_FILES = (".safetensors", ".bin", ".pt", ".json")  # whoever names a target so takes it for a file


@dataclass(frozen=True)
class Converted:
    """What was written."""

    what: str
    came: Whose
    became: Whose
    notes: list[str]
    files: list[Path]


def _usual(source: Source, target: Path) -> Whose:
    """Return the layout that is meant when none is said."""
    if target.suffix == ".pth":
        return "pth"
    if source.layout in ("native", "pth"):
        return "official"
    if isinstance(source.config, InternVLConfig):
        return "ours" if source.layout == "official" else "official"
    return "native"


def _refuse_target(target: Path, layout: Whose) -> None:
    """Refuse a target that is there already, or is no place for this layout.

    Raises:
        ValueError: It is one.
    """
    if target.suffix in _OF_FILES or (target.suffix == ".pth") != (layout == "pth"):
        raise ValueError(
            f"{target} is no place for the layout {layout}: pth is written to a file NAME.pth, the others to a folder"
        )
    taken = [path for path in (target, *([target.with_suffix(".json")] if layout == "pth" else [])) if path.exists()]
    if taken and (layout == "pth" or not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{taken[0]} exists already; name another place to write to, or remove it first")


def _decoder(source: Source, language: str | None, layout: Whose) -> str:
    """Return the class in whose layout the language model is written.

    Raises:
        ValueError: The model has no language model, or none of that kind, or no choice.
    """
    if language is None:
        return source.decoder
    if layout != "official" or not isinstance(source.config, ChatConfig):
        raise ValueError("a language layout is chosen for chat models in the official layout alone")
    if language not in BY_LAYOUT:
        raise ValueError(f"language layout {language!r} is none of {', '.join(BY_LAYOUT)}")
    if (language == "qwen2") != source.config.text.qkv_bias:
        raise ValueError(
            f"the language model {'has' if source.config.text.qkv_bias else 'has no'} biases of queries and keys; "
            f"it cannot be written in the layout {language}"
        )
    return BY_LAYOUT[language].class_name


def _copy_vocabulary(source: Path, target: Path) -> list[Path]:
    found = [source / name for name in VOCABULARY if (source / name).is_file()] if source.is_dir() else []
    return [Path(shutil.copyfile(path, target / path.name)) for path in found]


def convert(
    path: Path,
    target: Path,
    layout: Whose | None = None,
    *,
    config: Path | None = None,
    language: str | None = None,
    image_token_id: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Converted:
    """Write a model in another layout; no more than a few tensors are in memory at any time.

    Args:
        path: A folder with `config.json` and safetensors, or a `.pth`.
        target: The folder to write to, or a file `NAME.pth`, beside which `NAME.json` keeps our configuration.
        layout: The one to write; the usual one for the source when left out.
        config: Where the source's configuration is, if not in its usual place.
        language: Whose of the language model in an official chat model; the one that it came with when left out.
        image_token_id: Id of `<IMG_CONTEXT>`, where neither `config.json` nor the tokenizer tells it.
        shard_bytes: Most bytes of one safetensors file.

    Raises:
        FileNotFoundError: There is no such model.
        WeightsError: The weights are not all of the model's and no others; all that differ are named.
        ValueError: The configuration is none that is known, the other code cannot compute the same, or the target
            exists.
    """
    source = open_source(path, config, image_token_id)
    became = layout or _usual(source, target)
    _refuse_target(target, became)
    decoder = _decoder(source, language, became)
    fields = config_in(became, source.config, decoder) if source.complete else None

    def change(weights: State) -> State:
        ours = from_layout(source.layout, weights, source.config, source.decoder)
        return to_layout(became, ours, source.config, decoder)

    described = on_meta(change(on_meta(source.weights)))
    dtype = str(next(iter(described.values())).dtype).removeprefix("torch.")
    if fields is not None and became in ("official", "native"):
        fields |= {"dtype": dtype, **({"torch_dtype": dtype} if became == "official" else {})}
    if became == "pth":
        files = [write_pth(change(source.weights), described, target)]
    else:
        files = [each.path for each in write_weights(change(source.weights), described, target, shard_bytes)]
        files += _copy_vocabulary(source.path, target)
    if fields is not None:
        # The configuration comes last: where it is, all is there.
        files.append(target.with_suffix(".json") if became == "pth" else target / "config.json")
        files[-1].write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
    notes = [source.note] if source.note else []
    if became == "pth" and HEAD in source.weights and not generative(source.weights):
        notes.append(f"{HEAD} stays behind: InternVL-C never uses it, and the first release's file has none")
    return Converted(name_of(source.config, source.weights), source.layout, became, notes, files)
