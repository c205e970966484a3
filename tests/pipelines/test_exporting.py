"""`internvl export`: from a checkpoint to a folder that transformers loads, and what cannot be exported."""

import json
from pathlib import Path

import pytest
from chat_models import chat_session, write_chat
from safetensors.torch import save
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner, Result

from infra.storage import Store
from pipelines.cli import app
from stages.chat import ChatSession
from stages.checkpoints import publish
from stages.manifest import digest_of
from stages.ref import Ref
from stages.sources.scenes import Split, draw, sample_scene
from stages.workspace import Output

PICTURE = draw(sample_scene(0, 1, Split.IID), 48)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)])


@pytest.fixture(scope="module")
def chat() -> ChatSession:
    return chat_session()


@pytest.fixture
def checkpoint(chat: ChatSession, store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INTERNVL_STORE", store.root)
    files = {
        "model": ("model.safetensors", save(chat.model.state_dict())),
        "config": ("config.json", chat.config.model_dump_json().encode()),
        "tokenizer": ("tokenizer.json", chat.tokenizer.to_str().encode()),
    }
    output = Output(store, Ref(name="checkpoints/instruct", version="t"), "instruct", {"stage": "instruct"})
    facts = {"names": {role: name for role, (name, _) in files.items()}}
    output.commit([publish(output, digest_of("x"), files, 1, facts)])
    return "checkpoints/instruct@t"


def test_a_checkpoint_becomes_a_folder_that_transformers_talks_to(
    chat: ChatSession, checkpoint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    result = call(checkpoint, folder, "--max-new-tokens", 8)
    assert result.exit_code == 0 and "layout native" in result.output, result.output
    assert "config.json" in result.output and f"# InternVL-Chat: {checkpoint}" in (folder / "README.md").read_text()
    processor, native = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    content = [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    answer = native.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(answer).strip() == chat.ask("What?", PICTURE, max_new_tokens=8)


def test_a_folder_is_exported_from_any_layout_and_in_shards(chat: ChatSession, tmp_path: Path) -> None:
    ours = write_chat(chat, tmp_path / "ours")
    official = call(ours, tmp_path / "official", "--layout", "official")
    assert official.exit_code == 0 and "layout official" in official.output, official.output
    native = call(tmp_path / "official", tmp_path / "native", "--shard-gigabytes", "0.001")
    assert native.exit_code == 0 and "layout native" in native.output, native.output
    again = ChatSession.from_folder(tmp_path / "native")
    assert again.ask("What?", PICTURE) == chat.ask("What?", PICTURE)
    assert "Written by internvl-pipeline" in (tmp_path / "native" / "README.md").read_text()


def test_what_cannot_be_exported_is_named(chat: ChatSession, tmp_path: Path) -> None:
    ours = write_chat(chat, tmp_path / "ours")
    config = json.loads((ours / "config.json").read_text())
    for words, message in (
        ((tmp_path / "nothing", tmp_path / "out"), "nothing; name the folder of a model"),
        (("checkpoints/none@t", tmp_path / "out"), "checkpoints/none@t is not in"),
        ((ours, ours), "exists already; name another place"),
    ):
        result = call(*words)
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
    (ours / "config.json").write_text(json.dumps({**config, "ps_version": "v1"}))
    result = call(ours, tmp_path / "out", "--layout", "native")
    assert result.exit_code == 2 and "or export it in the layout official" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
    result = call(ours, tmp_path / "out")
    assert result.exit_code == 0 and "layout official: transformers orders" in " ".join(result.output.split())
