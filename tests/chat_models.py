"""A small chat model to talk to, its weights at random, and its folder."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from training_data import tiny_tokenizer

from models.chat import InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from stages.chat import ChatSession
from stages.chat_assembly import grow_tokenizer


def chat_session(**changes: Any) -> ChatSession:
    """Return a model whose answers depend on what is asked and seen."""
    tokenizer = tiny_tokenizer()
    grow_tokenizer(tokenizer, "Hermes-2")
    config = ChatConfig(
        vision=VisionConfig(
            image_size=48,
            patch_size=8,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=48,
            initializer_factor=1.0,
        ),
        text=TextConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
        ),
        image_context_token_id=tokenizer.token_to_id("<IMG_CONTEXT>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        **changes,
    )
    torch.manual_seed(1)
    model = InternVLChat(config)
    with torch.no_grad():  # as large as trained weights
        for parameter in [*model.language_model.parameters(), *model.mlp1.parameters()]:
            if parameter.ndim == 2:
                parameter.mul_(8)
    return ChatSession(model, tokenizer)


def write_chat(chat: ChatSession, folder: Path) -> Path:
    """Write a model into a new folder as stage instruct does."""
    folder.mkdir()
    save_file(chat.model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(chat.config.model_dump_json())
    chat.tokenizer.save(str(folder / "tokenizer.json"))
    return folder
