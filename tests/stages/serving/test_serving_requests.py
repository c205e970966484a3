"""What may be asked: roles, parts, numbers, lengths; each refusal names the field and the next move."""

import base64
from typing import Any

import numpy as np
import pytest
from gateways import LIMITS
from small_web import drawn, jpeg

from models.preprocess import tile
from stages.serving.engines import engine_for, vllm
from stages.serving.messages import resized
from stages.serving.names import EngineName
from stages.serving.pictures import SeenPicture
from stages.serving.refusal import Refused
from stages.serving.requests import ChatRequest, checked
from stages.serving.served_model import ServedModel

PICTURE = {
    "type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()}
}  # fmt: skip


def says(text: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def ask(served: ServedModel, /, *messages: Any, **fields: Any) -> ChatRequest:
    return checked({"messages": list(messages), **fields}, served, LIMITS)


def test_what_is_asked_comes_out_as_an_engine_takes_it(model: ServedModel) -> None:
    found = ask(
        model, says("Be short.", "developer"), says("What is this?"), says("A disc.", "assistant"),
        says([{"type": "text", "text": "And"}, PICTURE, {"type": "text", "text": "this?"}]),
        model="small", stream=True, stream_options={"include_usage": True}, max_completion_tokens=7, temperature=0.5,
        top_p=0.9, seed=3, n=1, user="me",
    )  # fmt: skip
    assert [turn.role for turn in found.turns] == ["system", "user", "assistant", "user"]
    picture, text = found.turns[-1].parts
    assert isinstance(picture, SeenPicture) and text == "And\nthis?", "one picture stands in front, as in training"
    sent = found.turns[-1].message()["content"]
    assert sent[0]["image_url"]["url"].startswith("data:image/png;base64,") and sent[1]["text"] == text
    assert (found.answer_tokens, found.stream, found.include_usage) == (7, True, True)
    assert (found.temperature, found.top_p, found.seed) == (0.5, 0.9, 3)


def test_several_pictures_stay_where_they_are(model: ServedModel) -> None:
    one, two = {"type": "text", "text": "One:"}, {"type": "text", "text": "Two:"}
    (turn,) = ask(model, says([one, PICTURE, two, PICTURE])).turns
    assert [isinstance(part, SeenPicture) for part in turn.parts] == [False, True, False, True]


def test_the_pixels_of_a_conversation_are_bounded_together(model: ServedModel) -> None:
    each = 96 * 72
    messages = [says([PICTURE]), says("A disc.", "assistant"), says([PICTURE])]
    for limits, fits in ((2 * each, True), (2 * each - 1, False)):
        body, bounds = {"messages": messages}, LIMITS.model_copy(update={"all_pixels": limits})
        if fits:
            assert len(checked(body, model, bounds).turns) == 3
            continue
        with pytest.raises(Refused, match=f"more than {limits:,} pixels together; show fewer") as refused:
            checked(body, model, bounds)
        assert refused.value.status == 413


def test_several_pictures_share_the_tiles_of_one(model: ServedModel) -> None:
    side, most = model.image_size, model.max_tiles
    wide = SeenPicture(drawn(1, (480, 120)))
    alone = ask(model, says([wide])).turns
    assert resized(alone, model) == alone and model.grid(wide.image) == (4, 1) and most == 4
    two = ask(model, says([wide]), says("A.", "assistant"), says([wide, {"type": "text", "text": "b"}])).turns
    assert [picture for turn in two for picture in turn.pictures] == [wide, wide]
    theirs = [np.asarray(each) for each in tile(wide.image, side, 1, most // 2)]
    assert all(
        (np.asarray(ours) == other).all() for ours, other in zip(model.tiles(wide.image, 2), theirs, strict=True)
    )
    # An engine that would give each picture all tiles gets it in the size of the smaller grid.
    shown = [picture.image for turn in resized(two, model) for picture in turn.pictures]
    assert [image.size for image in shown] == [(2 * side, side)] * 2
    assert [model.grid(image) for image in shown] == [(2, 1)] * 2, "what it makes of it"
    cut = [np.asarray(each) for each in model.tiles(shown[0])[:-1]]
    assert all((ours == other).all() for ours, other in zip(cut, theirs[:-1], strict=True))


def test_what_is_sent_to_an_engine_is_the_picture_unless_it_shares_no_tiles(model: ServedModel) -> None:
    wide = SeenPicture(drawn(1, (480, 120)))
    asked = ask(model, says([wide, wide]))
    for engine, picture in (
        (engine_for(EngineName.TRANSFORMERS, model, LIMITS), wide),
        (vllm(model, LIMITS), SeenPicture(model.resized([wide.image] * 2)[0])),
    ):
        content = engine.body(asked, model)["messages"][0]["content"]
        assert [part["image_url"]["url"] for part in content] == [picture.data_url] * 2


WRONG: dict[str, tuple[Any, str, str]] = {
    "no object": ([1], "no JSON object", ""),
    "no messages": ({}, "no list of at least one", "messages"),
    "empty": ({"messages": []}, "no list of at least one", "messages"),
    "another model": ({"messages": [says("a")], "model": "gpt-4"}, "the one there is: small", "model"),
    "unknown field": ({"messages": [says("a")], "tools": []}, "'tools' is not offered", "tools"),
    "engine's own field": ({"messages": [says("a")], "generation_config": "{}"}, "not offered", "generation_config"),
    "two answers": ({"messages": [says("a")], "n": 2}, "one answer at a time", "n"),
    "too many tokens": ({"messages": [says("a")], "max_tokens": 1025}, "from 1 to 1024", "max_tokens"),
    "tokens as text": ({"messages": [says("a")], "max_tokens": "9"}, "a whole number", "max_tokens"),
    "tokens as truth": ({"messages": [says("a")], "max_tokens": True}, "a whole number", "max_tokens"),
    "hot": ({"messages": [says("a")], "temperature": 9}, "from 0 to 2", "temperature"),
    "not a number": ({"messages": [says("a")], "temperature": float("nan")}, "from 0 to 2", "temperature"),
    "stream as text": ({"messages": [says("a")], "stream": "yes"}, "true or false", "stream"),
    "role": ({"messages": [says("a", "tool")]}, "'tool'; known are system", "messages"),
    "no role": ({"messages": ["a"]}, "role", "messages"),
    "two users": ({"messages": [says("a"), says("b")]}, "take turns", "messages"),
    "assistant last": ({"messages": [says("a"), says("b", "assistant")]}, "last word", "messages"),
    "late system": ({"messages": [says("a"), says("b", "system"), says("c")]}, "take turns", "messages"),
    "only system": ({"messages": [says("a", "system")]}, "take turns", "messages"),
    "tool calls": ({"messages": [{**says("a"), "tool_calls": []}]}, "'tool_calls'", "messages"),
    "audio": ({"messages": [says([{"type": "input_audio"}])]}, "'input_audio'; known are text", "messages"),
    "content": ({"messages": [says(3)]}, "neither a text nor a list", "messages"),
    "half a character": ({"messages": [says("a\ud800")]}, "half of a character", "messages"),
    "half a field": ({"messages": [says("a")], "\udfff": 1}, "not offered", "\\udfff"),
    "silence": ({"messages": [says("  ")]}, "is empty", "messages"),
    "shown by the assistant": (
        {"messages": [says("a"), says([PICTURE], "assistant"), says("b")]}, "only the user shows", "messages"
    ),
    "no url": ({"messages": [says([{"type": "image_url", "image_url": {}}])]}, "holds", "messages"),
    "many pictures": ({"messages": [says([PICTURE] * 4)]}, "more than 3 pictures", "messages"),
    "many messages": ({"messages": [says("a"), says("b", "assistant")] * 33}, "at most 64", "messages"),
    "much text": ({"messages": [says("a" * 32_001)]}, "32,000 characters", "messages"),
    "long": ({"messages": [says("what " * 600)]}, "together at most 512 fit", "messages"),
    "no room": ({"messages": [says("a")], "max_tokens": 500}, "lower max_tokens", "messages"),
    "ends a turn": ({"messages": [says("a<|im_end|>")]}, "'<|im_end|>', which steers", "messages"),
    "begins a turn": ({"messages": [says("<|im_start|>system")]}, "'<|im_start|>'", "messages"),
    "a video in words": ({"messages": [says("see <video> here")]}, "'<video>', which steers", "messages"),
    "a picture in words": ({"messages": [says("<IMG_CONTEXT>")]}, "'<IMG_CONTEXT>'", "messages"),
    "in the system's turn": ({"messages": [says("</s>", "system"), says("a")]}, "'</s>'", "messages"),
    "in an answer": (
        {"messages": [says("a"), says("<img>", "assistant"), says("b")]}, "'<img>'", "messages"
    ),
    "the model's own": ({"messages": [says("<unk>")]}, "'<unk>'", "messages"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "said", "param"), WRONG.values(), ids=WRONG.keys())
def test_what_may_not_be_asked_is_refused(model: ServedModel, body: Any, said: str, param: str) -> None:
    with pytest.raises(Refused) as refused:
        checked(body, model, LIMITS)
    assert said in refused.value.message and 400 <= refused.value.status < 500
    assert (refused.value.body["error"]["param"] or "") == param and refused.value.body["error"]["code"]


def test_an_answer_gets_the_room_that_is_left(model: ServedModel) -> None:
    assert ask(model, says("a")).answer_tokens < model.context
    full = ask(model, says("what " * 80)).answer_tokens
    assert 8 <= full < ask(model, says("a")).answer_tokens
    assert ask(model, says([PICTURE])).answer_tokens < ask(model, says("a")).answer_tokens, "tiles cost tokens"


def test_the_estimate_of_a_prompt_is_never_too_small(model: ServedModel) -> None:
    from transformers import AutoProcessor

    turns = [
        says([PICTURE, {"type": "text", "text": "What color are they?"}]),
        says("red", "assistant"),
        says("Why?"),
    ]
    found = ask(model, says("Be short.", "system"), *turns)
    messages = [
        {
            "role": turn.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part.image}
                for part in turn.parts
            ],
        }
        for turn in found.turns
    ]
    processor = AutoProcessor.from_pretrained(model.folder)
    ids = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    used = len(ids["input_ids"][0])
    sizes = [picture.image.size for turn in found.turns for picture in turn.pictures]
    guess = model.prompt_tokens([turn.text for turn in found.turns], sizes)
    assert used <= guess <= used + 60
