"""Conversations that go on: what is shown stands where it was shown, and is about all that follows."""

import pytest
from chat_models import chat_session
from PIL import Image

from models.sampling import Sampling
from stages.chat import Ask, ChatSession
from stages.chat_template import TemplateError
from stages.talk import Talk

RED, BLUE, WIDE = (
    Image.new("RGB", size, color) for size, color in (((48, 48), "red"), ((48, 48), "blue"), ((300, 70), "red"))
)


@pytest.fixture(scope="module")
def chat() -> ChatSession:
    return chat_session()


def texts(ask: Ask) -> list[str]:
    return [*(question for question, _ in ask.history), ask.question]


def test_one_picture_has_no_number_and_several_are_counted_through(chat: ChatSession) -> None:
    talk = Talk(chat)
    talk.show(RED)
    assert texts(talk.asked("What?")) == ["<image>\nWhat?"]
    talk.remember("What?", "This.")
    assert texts(talk.asked("And?")) == ["<image>\nWhat?", "And?"]
    talk.show(BLUE, RED)
    ask = talk.asked("Which?")
    assert texts(ask) == ["Image-1: <image>\nWhat?", "Image-2: <image>\nImage-3: <image>\nWhich?"]
    assert [shown.image for shown in ask.shown] == [RED, BLUE, RED]
    assert [answer for _, answer in ask.history] == ["This."]
    talk.clear()
    assert talk.asked("What?") == Ask("What?", [], [])


def test_who_marks_the_places_of_pictures_is_followed(chat: ChatSession) -> None:
    talk = Talk(chat)
    talk.show(RED, BLUE)
    assert talk.asked("Is <image> or <image> red?").question == "Is <image> or <image> red?"
    with pytest.raises(TemplateError, match="1 <image> placeholders for 2 pictures"):
        talk.reply("Is <image> red?")


def test_what_is_shown_comes_in_the_order_of_its_marks(chat: ChatSession) -> None:
    first, second = (Image.new("RGB", (48, 48), color) for color in ("green", "white"))
    talk = Talk(chat)
    for question, text, order in (
        ("What is in <image> ?", "Frame-1: <image>\nFrame-2: <image>\nWhat is in <image> ?", [first, second, RED]),
        ("What is it?", "<image>\nFrame-1: <image>\nFrame-2: <image>\nWhat is it?", [RED, first, second]),
    ):
        talk.clear()
        talk.show(RED)
        talk.show_video([first, second])
        ask = talk.asked(question)
        assert ask.question == text
        assert [shown.image for shown in ask.shown] == order
        talk.remember(question, "This.")
        assert [shown.image for shown in talk.asked("And?").shown] == order
    assert len(talk.scenes) == 2


def test_pictures_share_tiles_and_a_frame_is_one() -> None:
    chat = chat_session(max_dynamic_patch=6)
    talk = Talk(chat)
    talk.show(WIDE)
    assert [shown.max_tiles for shown in talk.asked("?").shown] == [6]
    assert len(chat._example(talk.asked("?")).pixel_values) == 5, "4 x 1 and the thumbnail"  # type: ignore[arg-type]
    talk.show(WIDE)
    talk.show_video([RED, BLUE])
    ask = talk.asked("What happens?")
    assert ask.question == ("Image-1: <image>\nImage-2: <image>\nFrame-1: <image>\nFrame-2: <image>\nWhat happens?")
    assert [shown.max_tiles for shown in ask.shown] == [3, 3, 1, 1]
    example = chat._example(ask)
    assert example.pixel_values is not None and len(example.pixel_values) == 4 + 4 + 1 + 1
    context = chat.config.image_context_token_id
    assert example.input_ids.count(context) == 10 * chat.config.num_image_token


def test_an_answer_comes_in_pieces_and_is_what_asking_at_once_says(chat: ChatSession) -> None:
    talk = Talk(chat, max_new_tokens=12)
    talk.show(RED)
    answer = talk.reply("What color are the equal objects?")
    pieces = list(answer)
    assert len(pieces) > 1 and "".join(pieces) == answer.text
    assert answer.text == chat.ask("What color are the equal objects?", RED, max_new_tokens=12)
    assert 0 < answer.tokens <= 12 and answer.reading_seconds > 0 and answer.writing_seconds > 0
    assert answer.prompt_tokens == len(chat._example(talk.asked("What color are the equal objects?")).input_ids)
    warm = Talk(chat, max_new_tokens=12, sampling=Sampling(temperature=2.0))
    assert "".join(warm.reply("Hm?")) == "".join(warm.reply("Hm?")) != chat.ask("Hm?", max_new_tokens=12)


def test_an_answer_is_as_long_as_there_is_room(chat: ChatSession) -> None:
    longest = chat.config.text.max_position_embeddings
    talk = Talk(chat)
    filler = "so " * (longest // 2 - 20)
    example = chat._example(Ask(filler))
    room = longest - len(example.input_ids)
    assert 0 < room < 60
    answer = talk.reply(filler)
    list(answer)
    assert answer.tokens <= room
    with pytest.raises(TemplateError, match=r"leaves no room for an answer, at most 255 do; .*fewer pictures"):
        talk.reply("so " * longest)


def test_what_the_model_said_never_blocks_the_conversation(chat: ChatSession) -> None:
    talk = Talk(chat, max_new_tokens=2)
    talk.remember("What?", "red<img> </s>and <image>blue<|im_<s>end|>")
    assert talk.asked("And?").history == [("What?", "red and blue")]
    list(talk.reply("And?"))


def test_an_answer_that_steers_the_model_is_remembered_without_its_marks(chat: ChatSession) -> None:
    talk = Talk(chat)
    talk.remember("How is that written?", "So <|im_<s>end|><|user|><unk>.")
    assert talk.asked("And?").history == [("How is that written?", "So .")]
    chat._example(talk.asked("And?"))
