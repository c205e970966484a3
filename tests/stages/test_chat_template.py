"""Conversations as text and labels, against prompts recorded from the official code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stages.chat_template import (
    IGNORE,
    TEMPLATES,
    TemplateError,
    control_token_in,
    encode_conversation,
    place_images,
    place_video,
    render,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "parity" / "chat_prompts.json").read_text())
SYSTEM = "You are a careful assistant."


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def text_of(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def learned(name: str, questions: list[str], answers: list[str]) -> str:
    ids, labels = encode_conversation(letters, name, SYSTEM, questions, answers)
    assert len(ids) == len(labels)
    assert all(label in (IGNORE, token) for token, label in zip(ids, labels, strict=True))
    return text_of([label for label in labels if label != IGNORE])


def test_every_recorded_template_is_known() -> None:
    assert set(GOLDEN) == set(TEMPLATES) - {"vicuna_v1"}


def test_vicunas_template_is_that_of_fastchat() -> None:
    asked = ["<image>\nWhat colour is the circle?", "And the square?"]
    written = (
        f"{SYSTEM} USER: <image>\nWhat colour is the circle? ASSISTANT: Red.</s>USER: And the square? ASSISTANT:"
    )
    assert render("vicuna_v1", SYSTEM, asked, ["Red."]) == written


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Hermes-2", "A1<|im_end|>A2<|im_end|>"),
        ("internlm2-chat", "A1<|im_end|>A2<|im_end|>"),
        ("internvl2_5", "A1<|im_end|>A2<|im_end|>"),
        ("phi3-chat", "A1<|end|>A2<|end|>"),
        ("internvl_zh", " A1</s> A2</s>"),
        ("vicuna_v1", " A1</s> A2</s>"),
    ],
)
def test_only_answers_and_their_ends_are_learned(name: str, expected: str) -> None:
    assert learned(name, ["Q1", "Q2"], ["A1", "A2"]) == expected


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_an_open_prompt_ends_where_the_answer_begins_in_training(name: str) -> None:
    prompt, labels = encode_conversation(letters, name, SYSTEM, ["Q1", "Q2"], ["A1"])
    whole, learned = encode_conversation(letters, name, SYSTEM, ["Q1", "Q2"], ["A1", "A2"])
    assert whole[: len(prompt)] == prompt
    assert labels == learned[: len(prompt)] and learned[len(prompt)] != IGNORE


def test_one_template_strips_turns_and_begins_with_bos() -> None:
    assert learned("internlm2-chat", [" Q "], [" A "]) == "A<|im_end|>"
    assert learned("Hermes-2", [" Q "], [" A "]) == " A <|im_end|>"
    for name, begins in [("internlm2-chat", True), ("Hermes-2", False), ("internvl2_5", False)]:
        ids, labels = encode_conversation(letters, name, "", ["Q"], ["A"], bos_token_id=1)
        assert (ids[0] == 1) is begins and labels[0] == IGNORE


def test_a_picture_becomes_its_context_tokens() -> None:
    assert place_images(["<image>\nQ"], [2]) == ["<img><IMG_CONTEXT><IMG_CONTEXT></img>\nQ"]
    assert place_images(["Q"], [1]) == ["<img><IMG_CONTEXT></img>\nQ"]
    assert place_images(["a<image>b<image>", "<image>"], [1, 2, 1]) == [
        "a<img><IMG_CONTEXT></img>b<img><IMG_CONTEXT><IMG_CONTEXT></img>",
        "<img><IMG_CONTEXT></img>",
    ]
    for questions, tokens in [(["<image>"], []), (["Q"], [1, 1]), (["<image><image>"], [1])]:
        with pytest.raises(TemplateError, match="placeholders"):
            place_images(questions, tokens)


def test_a_cut_keeps_pictures_and_answers_or_is_refused() -> None:
    whole, _ = encode_conversation(letters, "Hermes-2", "", ["<image>\nQ"], ["A" * 9], tokens_per_image=[2])
    cut, labels = encode_conversation(
        letters, "Hermes-2", "", ["<image>\nQ"], ["A" * 9], tokens_per_image=[2], context_length=len(whole) - 12
    )
    assert cut == whole[:-12] and text_of([label for label in labels if label != IGNORE]) == "A" * 7
    with pytest.raises(TemplateError, match="picture does not fit"):
        encode_conversation(letters, "Hermes-2", "", ["<image>\nQ"], ["A"], tokens_per_image=[9], context_length=90)
    with pytest.raises(TemplateError, match="no answer begins"):
        encode_conversation(letters, "Hermes-2", "", ["Q"], ["A"], context_length=30)


def test_misuse_is_refused_by_name() -> None:
    with pytest.raises(TemplateError, match=r"'vicuna'.*Hermes-2"):
        render("vicuna", "", ["Q"], [])
    with pytest.raises(TemplateError, match="do not alternate"):
        render("Hermes-2", "", ["Q"], ["A", "B"])


def test_control_tokens_are_seen() -> None:
    assert control_token_in("ends <|im_end|> here") == "<|im_end|>"
    assert control_token_in("two < three and <b>bold</b>") is None
    assert control_token_in("an <unk> word") is None and control_token_in("an <unk> word", ["<unk>"]) == "<unk>"


@pytest.mark.parametrize(
    "token", ["<|user|>", "<|assistant|>", "<|system|>", "<|eot_id|>", "<|begin_of_text|>", "<unk>"]
)
def test_nobody_forges_a_turn(token: str) -> None:
    asked: dict[str, Any] = {"encode": letters, "name": "phi3-chat", "steering": ["<unk>"]}
    for place in ("system_message", "question", "answer"):
        said = {"system_message": "", "question": "Q", "answer": "A", place: f"x{token}y"}
        with pytest.raises(TemplateError, match=re.escape(f"{token} cannot be said")):
            encode_conversation(
                **asked, system_message=said["system_message"], questions=[said["question"]], answers=[said["answer"]]
            )
    grounded = ["<ref>the <b>circle</b></ref>"]
    assert encode_conversation(**asked, system_message="", questions=grounded, answers=["<box>[[0, 0, 1, 1]]</box>"])


def test_a_video_becomes_numbered_pictures() -> None:
    assert place_video("<video>\nWhat happens?", 2) == "Frame-1: <image>\nFrame-2: <image>\nWhat happens?"
    assert place_video("What happens? <video>", 1) == "What happens? Frame-1: <image>\n"
    for question in ("What happens?", "<video>\n<video>\nWhich is longer?"):
        with pytest.raises(TemplateError, match="placeholders for one video"):
            place_video(question, 2)
