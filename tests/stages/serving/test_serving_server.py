"""The command with a real engine: what OpenAI's client gets is what our own model says."""

import re
from pathlib import Path
from typing import Any

from exporting import QUESTION
from serve_command import Command

from stages.chat import ChatSession
from stages.checkpoints import fetch
from stages.manifest import load
from stages.ref import Ref
from stages.serving.pictures import SeenPicture
from stages.sources.scenes import Split, draw, sample_scene
from stages.talk import Talk

PICTURE = draw(sample_scene(0, 0, Split.IID), 48)


def messages() -> Any:
    shown = {"type": "image_url", "image_url": {"url": SeenPicture(PICTURE).data_url}}
    return [{"role": "user", "content": [{"type": "text", "text": QUESTION}, shown]}]


def plain(text: str) -> str:
    """Return a text without special tokens, which engines leave out, and without halves of characters."""
    return re.sub(r"</?\w+>|<\|\w+\|>|\ufffd", "", text).strip()


def test_the_endpoint_says_what_our_own_model_says(command: Command, tmp_path: Path) -> None:
    checkpoint = load(command.store, Ref.model_validate("checkpoints/instruct@w"))
    ours = ChatSession.from_folder(fetch(command.store, checkpoint, tmp_path / "ours"))
    said = plain(ours.ask(QUESTION, PICTURE, max_new_tokens=12))
    assert said, "some of twelve tokens are no special ones"
    with command.client() as client:
        named = client.models.list().data[0].id
        asked: Any = {"model": named, "messages": messages(), "max_tokens": 12}
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        drawn = {
            client.chat.completions.create(**asked, temperature=1.5, seed=seed).choices[0].message.content
            for seed in (1, 2, 2)
        }
    assert named == "checkpoints/instruct@w"
    assert plain(whole.choices[0].message.content or "") == said and whole.choices[0].finish_reason == "length"
    assert plain("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)) == said
    assert chunks[-1].usage == whole.usage and whole.usage is not None and whole.usage.completion_tokens == 12
    assert len(drawn) == 2 and said not in drawn, "a seed decides what is drawn"


def test_several_pictures_share_the_tiles_of_one_as_in_training(command: Command, tmp_path: Path) -> None:
    checkpoint = load(command.store, Ref.model_validate("checkpoints/instruct@w"))
    ours = ChatSession.from_folder(fetch(command.store, checkpoint, tmp_path / "ours"))
    wide = PICTURE.resize((480, 120))
    part = {"type": "image_url", "image_url": {"url": SeenPicture(wide).data_url}}
    with command.client() as client:
        for count, tiles in ((1, 4 + 1), (2, 2 * (2 + 1))):
            talk = Talk(ours)
            talk.show(*[wide] * count)
            example = ours._example(talk.asked(QUESTION))
            assert example.pixel_values is not None and len(example.pixel_values) == tiles
            content = [*[part] * count, {"type": "text", "text": QUESTION}]
            asked: Any = {"model": "checkpoints/instruct@w", "messages": [{"role": "user", "content": content}]}
            usage = client.chat.completions.create(**asked, max_tokens=1).usage
            assert usage is not None and usage.prompt_tokens == len(example.input_ids)


def test_nobody_but_us_can_reach_the_engine(command: Command) -> None:
    import psutil

    (engine,) = (
        child
        for child in psutil.Process(command.process.pid).children(recursive=True)
        if "transformers_engine" in " ".join(child.cmdline())
    )
    assert [each for each in engine.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN] == []
    place = Path(engine.cwd())
    assert (place / "engine.sock").exists() and place.parent.stat().st_mode & 0o077 == 0
    assert engine.environ()["HF_HUB_OFFLINE"] == "1"
