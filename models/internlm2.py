"""InternLM2's weights under LLaMA's names and back: the two compute the same, only their layouts differ."""

import torch
from torch import Tensor

from models.config import TextConfig
from models.renaming import Origin, Renamed, State, passing, same

_NAMES = {
    "tok_embeddings": "embed_tokens",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "output": "lm_head",
}
_FUSED = "attention.wqkv.weight"
_SPLIT = ("q_proj", "k_proj", "v_proj")


def internlm2_name(name: str) -> str:
    """Return under which name InternLM2 holds a weight of LLaMA's; a piece of a fused one lies in the whole."""
    stem, _, last = name.partition("self_attn.")
    if last in [f"{each}.weight" for each in _SPLIT]:
        return stem + _FUSED
    for theirs, ours in _NAMES.items():
        name = name.replace(f"{ours}.weight", f"{theirs}.weight")
    return name


def _heads(config: TextConfig) -> tuple[int, int, int]:
    """Return (key heads, queries per key head, width of a head)."""
    key_heads = config.num_key_value_heads or config.num_attention_heads
    return key_heads, config.num_attention_heads // key_heads, config.hidden_size // config.num_attention_heads


def llama_from_internlm2(weights: State, config: TextConfig) -> Renamed:
    """Return the weights of an InternLM2ForCausalLM as those of a LlamaForCausalLM.

    Its fused projection holds, for each key head in turn, the rows of that head's queries, then
    its key, then its value.

    Args:
        weights: Names without a prefix, such as `model.layers.0.attention.wqkv.weight`.
        config: Shape of the decoder.
    """
    key_heads, groups, head_dim = _heads(config)

    def part(number: int, value: Tensor) -> Tensor:
        heads = value.reshape(key_heads, groups + 2, head_dim, -1)
        chosen = (heads[:, :groups], heads[:, groups : groups + 1], heads[:, groups + 1 :])[number]
        return chosen.flatten(0, 2).clone()

    found: dict[str, Origin] = {}
    for name in [each for each in weights if not passing(each)]:
        if name.endswith(_FUSED):
            stem = name.removesuffix(_FUSED) + "self_attn"
            for number, each in enumerate(_SPLIT):
                found[f"{stem}.{each}.weight"] = Origin((name,), lambda value, n=number: part(n, value))
        else:
            new = name
            for old, ours in _NAMES.items():
                new = new.replace(f"{old}.weight", f"{ours}.weight")
            found[new] = same(name)
    return Renamed.whole(weights, found, "InternLM2")


def internlm2_from_llama(weights: State, config: TextConfig) -> Renamed:
    """Return the weights of a LlamaForCausalLM as those of an InternLM2ForCausalLM; undoes `llama_from_internlm2`."""
    key_heads, groups, head_dim = _heads(config)

    def fuse(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = (query.reshape(key_heads, groups, head_dim, -1), key.reshape(key_heads, 1, head_dim, -1))
        return torch.cat([*heads, value.reshape(key_heads, 1, head_dim, -1)], dim=1).flatten(0, 2)

    found: dict[str, Origin] = {}
    for name in [each for each in weights if not passing(each)]:
        theirs = internlm2_name(name)
        if not theirs.endswith(_FUSED):
            found[theirs] = same(name)
        elif theirs not in found:
            stem = theirs.removesuffix(_FUSED) + "self_attn"
            found[theirs] = Origin(tuple(f"{stem}.{each}.weight" for each in _SPLIT), fuse)
    return Renamed.whole(weights, found, "a LLaMA")
