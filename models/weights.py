"""Weight names of others: the official code's, and those of transformers' own InternVL.

Our models use the official names; language models of other layouts are turned into LLaMA's.
transformers' InternVL (without remote code) holds the same numbers under other names and splits the
fused projection of queries, keys and values. All directions are exact to the bit.
"""

from collections.abc import Iterable

from models.config import TextConfig
from models.decoders import DECODERS
from models.phi3_names import llama_from_phi3, phi3_from_llama
from models.renaming import Origin, Renamed, State, above, below, joined, passing, rows, same, stacked

_EMBEDDINGS = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
}
_LAYER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "attn.proj": "attention.projection_layer",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_PROJECTOR = {"mlp1.0": "layer_norm", "mlp1.1": "linear_1", "mlp1.3": "linear_2"}
_QKV = ("q_proj", "k_proj", "v_proj")
_KINDS = ("weight", "bias")
_SPOKEN = "language_model."


def _stem(name: str) -> tuple[str, str]:
    """Return (name without its kind, kind with its dot); layer scales have no kind."""
    head, dot, kind = name.rpartition(".")
    return (head, dot + kind) if kind in _KINDS else (name, "")


def _vision_to_native(names: Iterable[str], source: str = "", target: str = "") -> dict[str, Origin]:
    """Return what the native weights are made of, for names below prefixes; unknown names are left out."""
    found: dict[str, Origin] = {}
    for full in names:
        name = full.removeprefix(source)
        if name in _EMBEDDINGS:
            found[target + _EMBEDDINGS[name]] = same(full)
            continue
        stem, kind = _stem(name)
        encoder, _, rest = stem.partition("encoder.layers.")
        number, _, part = rest.partition(".")
        layer = f"{target}encoder.layer.{number}."
        if not encoder and part == "attn.qkv":
            for position, each in enumerate(_QKV):
                found[f"{layer}attention.{each}{kind}"] = rows(full, position, 3)
        elif not encoder and part in _LAYER:
            found[f"{layer}{_LAYER[part]}{kind}"] = same(full)
    return found


def _vision_from_native(names: Iterable[str], source: str = "", target: str = "") -> dict[str, Origin]:
    """Return what the official weights are made of, for names below prefixes; unknown names are left out."""
    embeddings = {native: name for name, native in _EMBEDDINGS.items()}
    layers = {native: name for name, native in _LAYER.items()}
    found: dict[str, Origin] = {}
    for full in names:
        name = full.removeprefix(source)
        if name in embeddings:
            found[target + embeddings[name]] = same(full)
            continue
        stem, kind = _stem(name)
        encoder, _, rest = stem.partition("encoder.layer.")
        number, _, part = rest.partition(".")
        layer = f"{target}encoder.layers.{number}."
        if not encoder and part in (f"attention.{each}" for each in _QKV):
            pieces = [f"{source}encoder.layer.{number}.attention.{each}{kind}" for each in _QKV]
            found[f"{layer}attn.qkv{kind}"] = stacked(pieces)
        elif not encoder and part in layers:
            found[f"{layer}{layers[part]}{kind}"] = same(full)
    return found


def vision_to_native(weights: State) -> Renamed:
    """Return InternViT's weights under the names of `transformers.InternVLVisionModel`.

    Raises:
        WeightsError: Names are not InternViT's; all of them are named.
    """
    return Renamed.whole(weights, _vision_to_native(weights), "InternViT under the official names")


def vision_from_native(weights: State) -> Renamed:
    """Return the weights of `transformers.InternVLVisionModel` under the official names.

    Raises:
        WeightsError: Names are not that model's, or are missing; all of them are named.
    """
    return Renamed.whole(weights, _vision_from_native(weights), "transformers' InternVLVisionModel")


def chat_to_native(weights: State, decoder: str = "LlamaForCausalLM") -> Renamed:
    """Return our chat model's weights under the names of `transformers.InternVLForConditionalGeneration`.

    Args:
        weights: Names `vision_model.*`, `mlp1.*`, `language_model.*`.
        decoder: Which class of transformers holds the language model (`native_decoder`); Phi-3's fuses projections.

    Raises:
        WeightsError: Names are neither the vision model's, the connector's, nor of a LLaMA- or
            Qwen2-shaped language model.
    """
    if decoder == "Phi3ForCausalLM":
        weights = _with_spoken(weights, phi3_from_llama(below(weights, _SPOKEN)))
    vision = [name for name in weights if name.startswith("vision_model.")]
    found = _vision_to_native(vision, "vision_model.", "model.vision_tower.")
    for name in weights:
        stem, kind = _stem(name)
        if stem in _PROJECTOR:
            found[f"model.multi_modal_projector.{_PROJECTOR[stem]}{kind}"] = same(name)
        elif name.startswith("language_model.model.") and not passing(name):
            found["model.language_model." + name.removeprefix("language_model.model.")] = same(name)
        elif name == "language_model.lm_head.weight":
            found["lm_head.weight"] = same(name)
    return Renamed.whole(weights, found, "a chat model with a language model of LLaMA's or Qwen2's shape")


def named_as_today(weights: State) -> Renamed:
    """Return native weights under today's names; older exports have no `model.` in front."""
    if not any(name.startswith("vision_tower.") for name in weights):
        return Renamed(weights, {name: same(name) for name in weights})
    head, spoken = f"{_SPOKEN}lm_head.weight", f"{_SPOKEN}model."
    return Renamed(weights, {
        "lm_head.weight" if name == head else "model." + name.replace(spoken, _SPOKEN, 1): same(name)
        for name in weights
    })  # fmt: skip


def chat_from_native(weights: State) -> Renamed:
    """Return the weights of `transformers.InternVLForConditionalGeneration` under our names.

    The names of older exports, without `model.` in front, are understood too.

    Raises:
        WeightsError: Names are not that model's, or are missing; all of them are named.
    """
    given = named_as_today(weights)
    tower, speaks = "model.vision_tower.", f"model.{_SPOKEN}"
    found = _vision_from_native([name for name in given if name.startswith(tower)], tower, "vision_model.")
    projector = {native: name for name, native in _PROJECTOR.items()}
    for name in given:
        stem, kind = _stem(name)
        part = stem.removeprefix("model.multi_modal_projector.")
        if part != stem and part in projector:
            found[projector[part] + kind] = same(name)
        elif name.startswith(speaks) and not passing(name):
            found[f"{_SPOKEN}model." + name.removeprefix(speaks)] = same(name)
        elif name == "lm_head.weight":
            found[f"{_SPOKEN}lm_head.weight"] = same(name)
    ours = Renamed.whole(given, found, "transformers' InternVLForConditionalGeneration")
    if any(name.endswith("self_attn.qkv_proj.weight") for name in ours):
        return _with_spoken(ours, llama_from_phi3(below(ours, _SPOKEN)))
    return ours


def _with_spoken(weights: State, spoken: State) -> Renamed:
    """Return weights whose language model is replaced by another one."""
    rest = Renamed(weights, {name: same(name) for name in weights if not name.startswith(_SPOKEN)})
    return joined(rest, above(spoken, _SPOKEN))


def chat_from_official(weights: State, decoder: str, text: TextConfig) -> Renamed:
    """Return an official chat model's weights as ours, with a language model of LLaMA's layout.

    Args:
        weights: Names `vision_model.*`, `mlp1.*`, `language_model.*`.
        decoder: Class of the language model, as `llm_config.architectures` names it.
        text: Shape of the language model.

    Raises:
        WeightsError: Pieces of a fused projection are missing.
    """
    return _with_spoken(weights, DECODERS[decoder].to_llama(below(weights, _SPOKEN), text))


def chat_to_official(weights: State, decoder: str, text: TextConfig) -> Renamed:
    """Return our chat model's weights in the official layout; undoes `chat_from_official`."""
    return _with_spoken(weights, DECODERS[decoder].from_llama(below(weights, _SPOKEN), text))
