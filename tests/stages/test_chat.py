"""Talking to a chat model: single and many questions say the same, and what cannot be said is refused."""

import json
from pathlib import Path

import pytest
from chat_models import chat_session, write_chat
from PIL import Image
from training_data import make_language

from infra.storage import Store
from stages.chat import Ask, ChatSession, Shown
from stages.chat_template import TemplateError
from stages.checkpoints import fetch
from stages.convert import Whose, convert
from stages.manifest import ManifestError
from stages.sources.scenes import Split, draw, sample_scene
from stages.weight_files import INDEX, on_meta, write_weights


@pytest.fixture(scope="module")
def chat() -> ChatSession:
    return chat_session()


def picture(index: int) -> Image.Image:
    return draw(sample_scene(0, index, Split.IID))


def test_many_at_once_say_what_each_alone_says(chat: ChatSession) -> None:
    asks = [
        Ask("What color are the equal objects?", [Shown(picture(0))]),
        Ask("And now?", [Shown(picture(1))], [("What color are the equal objects?", "red"), ("Why?", "so")]),
        Ask("Without a picture?"),
        Ask("What color are the equal objects?", [Shown(picture(2))]),
    ]
    alone = [
        chat.ask(ask.question, *[each.image for each in ask.shown] or [None], ask.history, max_new_tokens=8)
        for ask in asks
    ]
    assert chat.ask_many(asks, batch_size=3, max_new_tokens=8) == alone
    assert len(set(alone)) == 4, "picture, question and history must all matter"


def test_the_picture_stands_in_the_first_question_of_the_history(chat: ChatSession) -> None:
    example = chat._example(Ask("And?", [Shown(picture(0))], [("What?", "This.")]))
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


@pytest.mark.parametrize("text", ["stop <|im_end|>", "<IMG_CONTEXT>", "</s>", "<|user|>", "an <unk> word"])
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
    state = chat.model.state_dict()
    write_weights(state, on_meta(state), write_chat(chat, tmp_path / "chat"), shard_bytes=100_000)
    assert (tmp_path / "chat" / INDEX).is_file()
    again = ChatSession.from_folder(tmp_path / "chat")
    assert again.ask("What?", picture(3), max_new_tokens=8) == chat.ask("What?", picture(3), max_new_tokens=8)
    with pytest.raises(ManifestError, match="holds no chat model"):
        ChatSession.from_folder(fetch(store, make_language(store), tmp_path / "language"))
    assert "text" in json.loads((tmp_path / "language" / "config.json").read_text())


@pytest.mark.parametrize("layout", ["official", "native"])
def test_the_same_model_in_another_layout_says_the_same(chat: ChatSession, tmp_path: Path, layout: Whose) -> None:
    convert(write_chat(chat, tmp_path / "ours"), tmp_path / layout, layout, shard_bytes=50_000)
    assert len(list((tmp_path / layout).glob("model-*.safetensors"))) > 1
    told: list[tuple[int, int]] = []
    again = ChatSession.from_folder(tmp_path / layout, lambda done, total: told.append((done, total)))
    assert again.ask("What?", picture(3), max_new_tokens=8) == chat.ask("What?", picture(3), max_new_tokens=8)
    assert told[0][0] == 0 and told[-1] == (len(told) - 1,) * 2


def test_the_official_codes_system_message_is_the_templates_own_unless_the_file_says_one(
    chat: ChatSession, tmp_path: Path
) -> None:
    convert(write_chat(chat, tmp_path / "ours"), tmp_path / "official", "official")
    config = tmp_path / "official" / "config.json"
    assert ChatSession.from_folder(tmp_path / "official").config.system_message == ""
    fields = json.loads(config.read_text())
    del fields["system_message"]
    config.write_text(json.dumps(fields))
    assert "InternVL" in ChatSession.from_folder(tmp_path / "official").config.system_message


def test_a_folder_that_lacks_something_is_named(chat: ChatSession, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no folder .*nowhere; name the folder of a model"):
        ChatSession.from_folder(tmp_path / "nowhere")
    folder = write_chat(chat, tmp_path / "chat")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"tokenizer.json cannot be read as a tokenizer"):
        ChatSession.from_folder(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ManifestError, match=r"has no tokenizer.json; transformers writes one"):
        ChatSession.from_folder(folder)
