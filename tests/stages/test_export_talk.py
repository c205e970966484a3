"""Whoever has only the exported folder puts conversations as we do: pictures, tiles, turns, videos, templates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import exported, make_chat
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText, AutoProcessor, GotOcr2ImageProcessorPil

from infra.storage import Store
from models.chat import InternVLChat
from models.preprocess import tiles_for_each
from stages import export
from stages.chat import Ask, ChatSession
from stages.chat_template import TEMPLATES
from stages.sources.scenes import Split, draw, sample_scene
from stages.talk import Talk

NEW = 10


def folder_of(store: Store, tmp_path: Path, **changes: Any) -> tuple[ChatSession, Path]:
    model, tokenizer, checkpoint = make_chat(store, **changes)
    return ChatSession(model, tokenizer), export.unpack(
        store, exported(store, tmp_path, checkpoint, "instruct"), tmp_path / "out"
    )


def picture(number: int, width: int = 48, height: int = 48) -> Image.Image:
    return draw(sample_scene(0, number, Split.IID), 48).resize((width, height))


def said(model: InternVLChat, session: ChatSession, ask: Ask) -> tuple[list[int], list[int], torch.Tensor | None]:
    """Return the prompt's tokens, the answer's, and the pixels, on our own road."""
    ids, mask, pixels = session._prompt([session._example(ask)])
    tokens = model.stream(ids, mask, pixels, max_new_tokens=NEW, stop=session._stop)
    return ids[0].tolist(), [int(token) for token in tokens], pixels


def theirs(folder: Path, turns: Sequence[dict[str, Any]], **kwargs: Any) -> tuple[list[int], list[int], Any]:
    """Return the same on the road of somebody who has transformers and the folder."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(folder)
    inputs = processor.apply_chat_template(
        list(turns),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=kwargs,
    )
    native = AutoModelForImageTextToText.from_pretrained(folder).eval()
    count = inputs["input_ids"].shape[1]
    new = native.generate(**inputs, max_new_tokens=NEW)[0, count:].tolist()
    return inputs["input_ids"][0].tolist(), new, inputs.get("pixel_values")


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def image(shown: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": shown}


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_pictures_tiles_and_turns_are_put_as_ours_and_answered_alike(
    store: Store, tmp_path: Path, template: str
) -> None:
    session, folder = folder_of(store, tmp_path, template=template, max_dynamic_patch=6)
    shown = [picture(0, 150, 50), picture(1, 60, 60), picture(2, 50, 120)]
    talk = Talk(session)
    talk.show(*shown[:2])
    talk.remember("Which is  larger?", "The first.")
    talk.show(shown[2])
    limit = tiles_for_each(6, 3)
    ids, answer, pixels = said(session.model, session, talk.asked("And this? "))
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [image(shown[0]), image(shown[1]), text("Which is  larger?")]},
        {"role": "assistant", "content": [text("The first.")]},
        {"role": "user", "content": [image(shown[2]), text("And this? ")]},
    ]
    found = theirs(folder, turns, images_kwargs={"max_patches": limit})
    assert found[0] == ids
    assert found[2].shape == pixels.shape and torch.allclose(found[2], pixels, atol=1e-5)  # type: ignore[union-attr]
    assert found[1] == answer and len(answer) > 1


def test_a_system_message_of_its_own_and_no_picture(store: Store, tmp_path: Path) -> None:
    session, folder = folder_of(store, tmp_path)
    session.config = session.config.model_copy(update={"system_message": "Say no."})
    ids, answer, _ = said(session.model, session, Ask("What?"))
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Say no."},
        {"role": "user", "content": "What?"},
    ]
    assert theirs(folder, turns)[:2] == (ids, answer)


def test_frames_of_a_video_are_pictures_with_a_name(store: Store, tmp_path: Path) -> None:
    session, folder = folder_of(store, tmp_path, max_dynamic_patch=6)
    frames = [picture(number, 64, 48) for number in range(3)]
    talk = Talk(session)
    talk.show_video(frames)
    ids, answer, pixels = said(session.model, session, talk.asked("What moves?"))
    content = [part for n, frame in enumerate(frames) for part in (text(f"Frame-{n + 1}: "), image(frame))]
    turn = {"role": "user", "content": [*content, text("What moves?")]}
    found = theirs(folder, [turn], images_kwargs={"max_patches": 1})
    assert found[:2] == (ids, answer) and torch.allclose(found[2], pixels, atol=1e-5)  # type: ignore[arg-type]


def test_a_video_as_such_says_frame_without_a_dash(store: Store, tmp_path: Path) -> None:
    session, folder = folder_of(store, tmp_path)
    frames = [picture(number) for number in range(3)]
    talk = Talk(session)
    talk.show_video(frames)
    asked = talk.asked("What moves?")
    ids, answer, pixels = said(
        session.model, session, asked._replace(question=asked.question.replace("Frame-", "Frame"))
    )
    turn = {"role": "user", "content": [{"type": "video", "video": frames}, text("What moves?")]}
    found = theirs(folder, [turn])
    assert found[0] == ids and found[2].shape == pixels.shape  # type: ignore[union-attr]
    assert torch.allclose(found[2], pixels, atol=1e-5)  # type: ignore[arg-type]
    assert found[1] == answer


def test_our_own_terminal_talks_to_the_folder_alike(store: Store, tmp_path: Path) -> None:
    session, folder = folder_of(store, tmp_path, template="internvl2_5", max_dynamic_patch=4)
    again = ChatSession.from_folder(folder)
    end = session.tokenizer.token_to_id("<|im_end|>")
    assert again.config == session.config.model_copy(update={"eos_token_id": end})
    assert again.ask("What?", picture(0, 90, 40)) == session.ask("What?", picture(0, 90, 40))


def test_stop_marks_end_an_answer_there_too(store: Store, tmp_path: Path) -> None:
    session, folder = folder_of(store, tmp_path)
    tokens: Tokenizer = session.tokenizer
    generation = AutoModelForImageTextToText.from_pretrained(folder).generation_config
    assert set(generation.eos_token_id) == set(session._stop) >= {tokens.token_to_id("<|im_end|>")}
    assert (generation.do_sample, generation.max_new_tokens) == (False, 64)
