"""InternLM2's weights under LLaMA's names: the two decoders compute the same, only their layouts differ."""

from collections.abc import Mapping

from torch import Tensor

from models.config import TextConfig

_NAMES = {
    "tok_embeddings": "embed_tokens",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def llama_from_internlm2(weights: Mapping[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    """Return the weights of an InternLM2ForCausalLM as those of a LlamaForCausalLM.

    Its fused projection holds, for each key head in turn, the rows of that head's queries, then
    its key, then its value.

    Args:
        weights: Names without a prefix, such as `model.layers.0.attention.wqkv.weight`.
        config: Shape of the decoder.
    """
    head_dim = config.hidden_size // config.num_attention_heads
    key_heads = config.num_key_value_heads or config.num_attention_heads
    groups = config.num_attention_heads // key_heads
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name == "output.weight":
            found["lm_head.weight"] = value
        elif name.endswith("attention.wqkv.weight"):
            stem = name.removesuffix("attention.wqkv.weight") + "self_attn"
            rows = value.view(key_heads, groups + 2, head_dim, -1)
            found[f"{stem}.q_proj.weight"] = rows[:, :groups].flatten(0, 2)
            found[f"{stem}.k_proj.weight"] = rows[:, groups].flatten(0, 1)
            found[f"{stem}.v_proj.weight"] = rows[:, groups + 1].flatten(0, 1)
        else:
            for old, new in _NAMES.items():
                name = name.replace(f"{old}.weight", f"{new}.weight")
            found[name] = value
    return found
