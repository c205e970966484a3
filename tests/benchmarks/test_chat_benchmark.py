"""The benchmark of the chat stage runs whole at tiny sizes, compares like with like, and says what it measured."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import chat, chat_packing, chat_step
from benchmarks.chat_lengths import PER_TILE, recorded
from models.config import ChatConfig

TINY = ChatConfig(
    vision=chat_step.SIZE.vision.model_copy(
        update={"image_size": 56, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}
    ),
    text=chat_step.SIZE.text.model_copy(
        update={"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    ),
    image_context_token_id=chat_step.CONTEXT,
    eos_token_id=chat_step.FILLER,
)


def test_it_writes_a_whole_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(chat_packing, "STEPS", 2)
    monkeypatch.setattr(chat_packing, "BATCHES", (64,))
    parts = {"packing": chat_packing.measure, "step": partial(chat_step.measure, TINY, 8, 2, 2, 64)}
    assert parts.keys() == chat.PARTS.keys()
    monkeypatch.setattr(chat, "measure", partial(chat.measure, parts))
    chat.main(tmp_path / "chat.json")
    result = json.loads((tmp_path / "chat.json").read_text())
    printed = capsys.readouterr().out
    assert {"versions", "commit"} < result.keys()
    for pair, told in result["step"]["ratios"].items():
        assert 0 < told["low"] <= told["ratio"] <= told["high"] and pair in printed
    goals = {pair: told["goal"] for pair, told in result["step"]["ratios"].items() if told["goal"] is not None}
    assert goals == chat_step.GOALS
    assert 0 < result["step"]["places_used"]["padded"] < 1
    ours, others = (result["packing"][f"{way}, 64 conversations"] for way in ("ours", "as they come and padded"))
    assert ours["computed_places_used"] == 1 > others["computed_places_used"]
    assert ours["straggler_worst"] < others["straggler_worst"]


def test_what_does_not_say_the_same_is_not_timed() -> None:
    examples = chat_step.conversations(recorded()[:4], TINY, 64)
    found = chat_step.candidates(TINY)
    chat_step.must_agree(found, examples)
    with torch.no_grad():
        found["transformers"].model.get_output_embeddings().weight.mul_(1.1)  # type: ignore[operator, union-attr]
    with pytest.raises(RuntimeError, match=r"transformers has loss and gradient .* time means nothing"):
        chat_step.must_agree(found, examples)


def test_proportions_are_those_of_the_model_they_stand_for() -> None:
    small, real = chat_step.ConversationCost.of(chat_step.SIZE), chat_packing.model_cost()
    per_tile = chat_step.SIZE.num_image_token
    assert small.tile / (per_tile * small.token) == pytest.approx(real.tile / (PER_TILE * real.token), rel=0.1)
    assert small.learned / small.token == pytest.approx(real.learned / real.token, rel=0.1)
    scaled = chat_step.conversations(recorded()[:64], chat_step.SIZE, chat_step.SCALE)
    for example, length in zip(scaled, recorded(), strict=False):
        assert len(example.input_ids) == pytest.approx(length.tokens / chat_step.SCALE, abs=2)


def test_the_official_packing_keeps_its_limits_and_loses_nothing() -> None:
    rows = recorded()
    packs = list(chat_packing.official_packs(iter(rows)))
    assert all(sum(row.tokens for row in pack) <= chat_packing.TOKENS for pack in packs)
    assert all(sum(row.tiles for row in pack) <= chat_packing.TILES for pack in packs)
    packed = sum(len(pack) for pack in packs)
    assert 0.8 * len(rows) < packed < len(rows), "the rest waits in open packs"
