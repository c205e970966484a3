"""Small language models as their `config.json` describes them, with positions stretched in every way."""

from copy import deepcopy
from typing import Any

from transformers import Phi3Config

ORIGINAL, HALF = 12, 4
SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 96, "rope_theta": 1e4,
}  # fmt: skip
SHORT_FACTOR, LONG_FACTOR = [1.0, 1.1, 1.3, 1.9], [1.05, 2.5, 7.0, 21.0]
SU = {"type": "su", "short_factor": SHORT_FACTOR, "long_factor": LONG_FACTOR}
PHI3 = {
    **SHAPE, "architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": ORIGINAL, "rope_scaling": SU,
    "hidden_act": "silu", "sliding_window": 262144,
}  # fmt: skip
LLAMA = {**SHAPE, "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 16}

SCALED = {
    "linear": {"type": "linear", "factor": 4.0},
    "dynamic 2": {"type": "dynamic", "factor": 2.0},
    "dynamic 3": {"rope_type": "dynamic", "factor": 3.0},
}


def phi3_config(fields: dict[str, Any]) -> Phi3Config:
    """Return transformers' configuration, which writes into what it is given and mistakes the older name `su`."""
    given = {name: deepcopy(value) for name, value in fields.items() if name not in ("architectures", "rope_theta")}
    given["rope_scaling"] = {**given["rope_scaling"], "type": "longrope"}
    return Phi3Config(**given, tie_word_embeddings=False, pad_token_id=0, eos_token_id=39)
