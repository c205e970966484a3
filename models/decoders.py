"""The layouts in which language models are published: who has which, and the way from it to LLaMA's and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.composition import Layout
from models.config import TextConfig
from models.internlm2 import internlm2_from_llama, internlm2_name, llama_from_internlm2
from models.phi3_names import llama_from_phi3, phi3_from_llama, phi3_name
from models.renaming import Renamed, State, passing, same
from models.rope import LongRope


def _without_buffers(weights: State, _: TextConfig) -> Renamed:
    """Return weights that have LLaMA's names already."""
    return Renamed(weights, {name: same(name) for name in weights if not passing(name)})


@dataclass(frozen=True)
class Decoder:
    """One layout of a language model's weights."""

    layout: Layout
    class_name: str
    model_type: str
    name_of: Callable[[str], str] = str
    """The name here of a weight of LLaMA's; a piece of a fused weight has the name of the whole."""
    to_llama: Callable[[State, TextConfig], Renamed] = _without_buffers
    from_llama: Callable[[State, TextConfig], Renamed] = _without_buffers


_ALL = (
    Decoder("llama", "LlamaForCausalLM", "llama"),
    Decoder("qwen2", "Qwen2ForCausalLM", "qwen2"),
    Decoder(
        "internlm2", "InternLM2ForCausalLM", "internlm2", internlm2_name, llama_from_internlm2, internlm2_from_llama
    ),
    Decoder(
        "phi3",
        "Phi3ForCausalLM",
        "phi3",
        phi3_name,
        lambda given, _: llama_from_phi3(given),
        lambda given, _: phi3_from_llama(given),
    ),
)
DECODERS = {each.class_name: each for each in _ALL}
"""By the name of the class, as the official chat models' `llm_config.architectures` has it."""
BY_LAYOUT: dict[str, Decoder] = {each.layout: each for each in _ALL}


def usual_decoder(text: TextConfig) -> str:
    """Return the class in whose layout a decoder of ours is published, where nothing else is said."""
    if text.qkv_bias:
        return "Qwen2ForCausalLM"
    phi3 = text.sliding_window is not None or isinstance(text.rope_scaling, LongRope)
    return "Phi3ForCausalLM" if phi3 else "LlamaForCausalLM"


def decoder_of(fields: Mapping[str, Any]) -> str:
    """Return the class of a language model from its configuration; LLaMA's where nothing is said.

    Raises:
        ValueError: Ours knows none of this name.
    """
    named = [name for name in fields.get("architectures") or [] if name]
    if named and named[0] in DECODERS:
        return str(named[0])
    kind = fields.get("model_type", "" if named else "llama")
    found = next((each.class_name for each in _ALL if each.model_type == kind), None)
    if found is None:
        said = repr(named[0]) if named else f"of the type {kind!r}"
        raise ValueError(f"language model {said} is not computed here; known are {', '.join(DECODERS)}")
    return found
