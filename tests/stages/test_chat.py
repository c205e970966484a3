"""Talking to a chat model: single and many questions say the same, and what cannot be said is refused."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from training_data import make_language, tiny_tokenizer

from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig, TextConfig, VisionConfig
from stages.chat import Ask, ChatSession
from stages.chat_template import TemplateError
from stages.instruct import grow_tokenizer
from stages.manifest import ManifestError
from stages.sources.scenes import Split, draw, sample_scene
from stages.weight_files import on_meta, write_weights


def session() -> ChatSession:
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
    )
    torch.manual_seed(1)
    model = InternVLChat(config)
    with torch.no_grad():  # as large as trained weights, so that answers depend on what is asked and seen
        for parameter in [*model.language_model.parameters(), *model.mlp1.parameters()]:
            if parameter.ndim == 2:
                parameter.mul_(8)
    return ChatSession(model, tokenizer)


@pytest.fixture(scope="module")
def chat() -> ChatSession:
    return session()


def picture(index: int) -> Image.Image:
    return draw(sample_scene(0, index, Split.VALIDATION))


def test_many_at_once_say_what_each_alone_says(chat: ChatSession) -> None:
    asks = [
        Ask("What color are the equal objects?", picture(0)),
        Ask("And now?", picture(1), [("What color are the equal objects?", "red"), ("Why?", "so")]),
        Ask("Without a picture?"),
        Ask("What color are the equal objects?", picture(2)),
    ]
    alone = [chat.ask(ask.question, ask.image, ask.history, max_new_tokens=8) for ask in asks]
    assert chat.ask_many(asks, batch_size=3, max_new_tokens=8) == alone
    assert len(set(alone)) == 4, "picture, question and history must all matter"


def test_the_picture_stands_in_the_first_question_of_the_history(chat: ChatSession) -> None:
    example = chat._example(Ask("And?", picture(0), [("What?", "This.")]), 8)
    text = chat.tokenizer.decode(example.input_ids, skip_special_tokens=False)
    assert text == (
        "<|im_start|>system\n<|im_end|><|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 9 + "</img>\nWhat?<|im_end|>"
        "<|im_start|>assistant\nThis.<|im_end|><|im_start|>user\nAnd?<|im_end|><|im_start|>assistant\n"
    )


def test_an_answer_ends_before_its_end_mark(chat: ChatSession) -> None:
    end = chat.tokenizer.token_to_id("<|im_end|>")
    words = chat.tokenizer.encode(" ja, grün ", add_special_tokens=False).ids
    assert chat._text([*words, end, *words]) == "ja, grün"
    assert chat._text([end]) == ""


@pytest.mark.parametrize("text", ["stop <|im_end|>", "<IMG_CONTEXT>", "</s>"])
def test_what_steers_the_model_cannot_be_said(chat: ChatSession, text: str) -> None:
    with pytest.raises(TemplateError, match="cannot be said"):
        chat.ask(text, picture(0))
    with pytest.raises(TemplateError, match="cannot be said"):
        chat.ask("fine", picture(0), [("fine", text)])


def test_pictures_and_room_must_be_there(chat: ChatSession) -> None:
    with pytest.raises(TemplateError, match="1 <image> placeholders for 0"):
        chat.ask("<image>\nWhat?")
    with pytest.raises(TemplateError, match="no room for an answer"):
        chat.ask("so " * 300)


def test_a_folder_comes_back_as_the_same_model_and_others_are_refused(
    chat: ChatSession, store: Store, tmp_path: Path
) -> None:
    write_weights(chat.model.state_dict(), on_meta(chat.model.state_dict()), tmp_path, shard_bytes=100_000)
    (tmp_path / "config.json").write_text(chat.config.model_dump_json())
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = ChatSession.from_folder(tmp_path)
    assert again.ask("What?", picture(3), max_new_tokens=8) == chat.ask("What?", picture(3), max_new_tokens=8)
    with pytest.raises(ManifestError, match="holds no chat model"):
        ChatSession.load(store, make_language(store), tmp_path / "language")
    assert "text" in json.loads((tmp_path / "language" / "config.json").read_text())
