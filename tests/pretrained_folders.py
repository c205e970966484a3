"""Folders of small random language models, as transformers writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from models.decoders import DECODERS
from models.official_config import text_of
from stages.language_data import scene_texts
from stages.sources.scenes import Split
from stages.tokenizer import train_tokenizer

TOKENS = 360
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


def write(folder: Path, kind: str = "llama", **fields: Any) -> Any:
    """Write a model and its tokenizer of `TOKENS` entries, and return it.

    Args:
        folder: Made if missing.
        kind: `llama`; `qwen2`, whose head is tied and whose texts have no token to begin with; `phi3`; `internlm2`,
            which transformers does not have: a LLaMA whose weights are fused and renamed.
        fields: Of the configuration, in place of the usual ones.
    """
    pieces = [piece for text in scene_texts(7, Split.TRAIN, 120) for piece in text]
    tokenizer = train_tokenizer(pieces, TOKENS)
    torch.manual_seed(0)
    given = {**SHAPE, "vocab_size": TOKENS + 8, **fields}
    if kind in ("llama", "internlm2"):
        model: Any = LlamaForCausalLM(LlamaConfig(**given, bos_token_id=1, eos_token_id=2))
    elif kind == "phi3":
        model = Phi3ForCausalLM(Phi3Config(**given, bos_token_id=1, eos_token_id=2, pad_token_id=2))
    else:
        ends = {"bos_token_id": None, "eos_token_id": 5}
        model = Qwen2ForCausalLM(Qwen2Config(**given, **ends, tie_word_embeddings=True))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or "bias" in name:  # which begin at one and nought, as no trained ones are
                value.add_(torch.randn_like(value) * 0.1)
    model.eval().save_pretrained(folder)
    if kind == "internlm2":
        _as_internlm2(folder)
    tokenizer.enable_padding(length=50)  # as some published files have it: it must not come along
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def _as_internlm2(folder: Path) -> None:
    """Write a LLaMA's folder anew under InternLM2's names."""
    fields = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    fused = DECODERS["InternLM2ForCausalLM"].from_llama(weights, text_of(fields))
    save_file({name: fused[name].contiguous() for name in fused}, folder / "model.safetensors")
    fields |= {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2"}
    (folder / "config.json").write_text(json.dumps(fields))
