"""A small chat model with a checkpoint, and its export."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import Tokenizer
from training_data import tiny_tokenizer
from weight_shards import in_shards

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from stages import export
from stages.chat_template import (
    CHAT_TOKENS,
    IMG_CONTEXT,
    SPECIAL_TOKENS,
)
from stages.checkpoints import publish
from stages.manifest import Manifest, digest_of
from stages.ref import Ref
from stages.workspace import Output, Workspace

VISION = VisionConfig(
    image_size=48, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)


QUESTION = "What color are the equal objects?"


def commit(store: Store, name: str, config: str, weights: dict[str, torch.Tensor], tokenizer: Tokenizer) -> Manifest:
    identity = {"stage": name.rpartition("/")[2], "parameters": {"seed": 1}, "inputs": {"conversations": "c" * 64}}
    files = {
        **in_shards(weights),
        "config.json": config.encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    named = {key.partition(".")[0]: (key, data) for key, data in files.items()}
    output = Output(store, Ref(name=name, version="t"), str(identity["stage"]), identity)
    facts = {"names": {role: key for role, (key, _) in named.items()}}
    return output.commit([publish(output, digest_of(name), named, 1, facts)])


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or name.endswith("proj.bias"):
            torch.nn.init.normal_(parameter, std=0.2)
        elif "norm" in name or ".ls" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def make_chat(
    store: Store, shape: Mapping[str, Any] = MappingProxyType({}), **changes: Any
) -> tuple[InternVLChat, Tokenizer, Manifest]:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens([*CHAT_TOKENS, *SPECIAL_TOKENS, "<|end|>"])
    text = TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=5000.0,
        **shape,
    )
    config = ChatConfig(
        vision=VISION,
        text=text,
        image_context_token_id=tokenizer.token_to_id(IMG_CONTEXT),
        eos_token_id=tokenizer.token_to_id("</s>"),
        system_message="Say what \"you\" see,\n'now'.",
        **changes,
    )
    model = randomised(InternVLChat(config))
    assert isinstance(model, InternVLChat)
    manifest = commit(store, "checkpoints/instruct", config.model_dump_json(), model.state_dict(), tokenizer)
    return model, tokenizer, manifest


def exported(
    store: Store, tmp_path: Path, checkpoint: Manifest, kind: Any, version: str = "t", **how: Any
) -> Manifest:
    output = Output(store, Ref(name=f"exports/{kind}", version=version), "export", {"kind": kind})
    scratch = tmp_path / f"scratch-{version}"
    scratch.mkdir()
    here = Workspace(store, InlineCluster(), scratch, {checkpoint.ref.name: checkpoint})
    return export.run(export.Parameters(kind=kind, **how), output, here)
