"""Adapters beside the base that they belong to, in peft's layout; for transformers' names or the official ones."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from models.config import ChatConfig
from models.decoders import usual_decoder
from models.lora import FIRST, SECOND
from models.renaming import Renamed, State, joined, same
from models.weights import chat_to_native
from stages.adapters import ADAPTERS, BASE, DESCRIBED, adapted_by
from stages.convert import VOCABULARY
from stages.export_native import json_bytes
from stages.manifest import ManifestError
from stages.weight_files import on_meta, open_weights, write_weights

FOLDER = "adapter"
_PEFT = "base_model.model."  # what peft puts in front of the names of a model that it wraps


def base_of(source: Path, scratch: Path) -> Path:
    """Write the model that adapters are put into: their base, with what was trained as a whole.

    Args:
        source: A fetched checkpoint that holds adapters alone, its base below.
        scratch: A new folder for it.

    Raises:
        ManifestError: The checkpoint holds all of its weights.
    """
    if not (source / ADAPTERS / DESCRIBED).is_file():
        raise ManifestError(
            f"{source.name} holds no adapters beside a base: what was published merged stays so; export it with "
            "adapters merged, or train with lora.merge false"
        )
    learned = open_weights(source / ADAPTERS)
    whole = {name: learned[name] for name in learned if not name.endswith((FIRST, SECOND))}
    below = open_weights(source / BASE)

    def put_together(weights: State) -> State:
        return joined(Renamed(weights, {name: same(name) for name in weights if name not in whole}), whole)

    write_weights(put_together(below), on_meta(put_together(on_meta(below))), scratch)
    for name in ("config.json", *VOCABULARY):
        if (source / name).is_file():
            (scratch / name).write_bytes((source / name).read_bytes())
    return scratch


def write_adapters(source: Path, target: Path, config: ChatConfig, native: bool) -> None:
    """Write what peft's `PeftModel.from_pretrained(model, folder)` reads.

    Args:
        source: As for `base_of`.
        target: A new folder.
        config: Of the model.
        native: For transformers' own class, which splits queries, keys and values; else under the official names.

    Raises:
        ValueError: The language model's projections are fused there, and no adapter of this rank does the same.
    """
    from peft import LoraConfig  # takes seconds

    if usual_decoder(config.text) == "Phi3ForCausalLM":
        raise ValueError("Phi3ForCausalLM fuses projections that were adapted one by one; export adapters merged")
    adapted, learned = adapted_by(source / ADAPTERS), open_weights(source / ADAPTERS)
    found = adapters_named({name: learned[name] for name in learned if name.endswith((FIRST, SECOND))}, native)
    ranks = {name.removesuffix(FIRST): len(value) for name, value in found.items() if name.endswith(FIRST)}
    usual = max(adapted.language, adapted.vision)
    other = {name: rank for name, rank in ranks.items() if rank != usual}
    described = LoraConfig(
        r=usual,
        lora_alpha=2 * usual,
        target_modules=sorted(ranks),
        rank_pattern=other,
        alpha_pattern={name: 2 * rank for name, rank in other.items()},
        base_model_name_or_path="..",
        inference_mode=True,
    ).to_dict()
    target.mkdir(parents=True)
    save_file({_PEFT + name: value for name, value in found.items()}, target / "adapter_model.safetensors")
    (target / "adapter_config.json").write_bytes(json_bytes({name: _plain(each) for name, each in described.items()}))


def _plain(value: Any) -> Any:
    """Return a set as a list that is the same every time."""
    return sorted(value) if isinstance(value, set) else value


def adapters_named(given: dict[str, Tensor], native: bool) -> dict[str, Tensor]:
    """Return pairs of matrices under the names of another layout.

    A fused projection's first matrix is that of each of its pieces, and the rows of the second one are dealt out.
    """
    if not native:
        return given
    found = {}
    for name, value in given.items():
        if name.endswith(SECOND):
            stem = name.removesuffix(SECOND)
            for piece, part in chat_to_native({f"{stem}.weight": value}).items():
                layer = piece.removesuffix(".weight")
                found[layer + SECOND] = part.contiguous()
                found[layer + FIRST] = given[stem + FIRST].clone()
    return found
