"""How long conversations are: found once for each model, by one process of a machine, and kept beside the data."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from own_data import mixed, turns
from test_chat_rows import PARAMETERS, made, workspace
from tokenizers import Tokenizer
from training_data import make_contrastive, make_language

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from stages import chat_data
from stages.chat_assembly import assemble
from stages.chat_data import Conversations, open_conversations
from stages.workspace import Workspace


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, InternVLChat, Tokenizer]:
    folder = tmp_path_factory.mktemp("chat")
    store = Store(str(folder / "store"))
    inputs = {"checkpoints/language": make_language(store), "checkpoints/contrastive": make_contrastive(store)}
    here = Workspace(store=store, cluster=InlineCluster(), scratch=folder / "scratch", inputs=inputs)
    return store, *assemble(PARAMETERS, here)


def test_lengths_are_found_once_for_each_model_and_kept_beside_the_data(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chat, tokenizer = world
    rows = [*mixed(tmp_path), {"id": "long", "conversations": turns("why " * 2000, "A")}]
    data = made(store, tmp_path, rows)
    first = open_conversations(workspace(store, tmp_path), data, tokenizer, chat.config)
    kept = [key for key in store.keys(data.ref.folder) if "/lengths/" in key]
    assert len(kept) == 1 and len(first) == 4 and sum(first.left_out.values()) == 1
    rendered: Counter[str] = Counter()
    original = chat_data.encode_conversation

    def counted(*given: Any, **more: Any) -> Any:
        rendered["conversations"] += 1
        return original(*given, **more)

    monkeypatch.setattr(chat_data, "encode_conversation", counted)
    again = open_conversations(workspace(store, tmp_path), data, tokenizer, chat.config)
    assert not rendered, "nothing is rendered at a later start"
    assert [again.size(number) for number in range(4)] == [first.size(number) for number in range(4)]
    assert again.left_out == first.left_out and again.example(2).input_ids == first.example(2).input_ids
    for changed in ({"max_dynamic_patch": 1}, {"system_message": "Be brief."}, {"context_length": 256}):
        rendered.clear()
        config = chat.config.model_copy(update=changed)
        open_conversations(workspace(store, tmp_path), data, tokenizer, config)
        assert rendered["conversations"] == 5, f"{changed} gives other lengths"
    store.write(kept[0], b"damaged")
    rendered.clear()
    mended = open_conversations(workspace(store, tmp_path), data, tokenizer, chat.config)
    assert rendered["conversations"] == 5 and mended.size(1) == first.size(1)


@pytest.mark.parametrize(("kept", "times"), [(True, 1), (False, 3)])
def test_of_processes_that_start_together_one_renders_unless_nothing_can_be_written_down(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, times: int
) -> None:
    store, chat, tokenizer = world
    data = made(store, tmp_path, mixed(tmp_path))
    here = [workspace(store, tmp_path / name) for name in "abc"]
    together, looked, rendered = threading.Barrier(3), list[Any](), list[Any]()
    recalled, measured = chat_data.recalled, Conversations._measured

    def noted(*given: Any) -> Any:
        looked.append(found := recalled(*given))
        if len(looked) <= 3:
            together.wait(timeout=20)  # each has found nothing before one begins
        return found

    monkeypatch.setattr(chat_data, "recalled", noted)
    monkeypatch.setattr(Conversations, "_measured", lambda self: rendered.append(self) or measured(self))
    if not kept:
        monkeypatch.setattr(chat_data, "write_down", lambda *_: None)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda each: open_conversations(each, data, tokenizer, chat.config), here))
    assert looked[:3] == [None] * 3 and len(rendered) == times
    assert {each.size(1) for each in found} == {found[0].size(1)}
