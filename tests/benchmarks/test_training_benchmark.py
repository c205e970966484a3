"""The benchmark of training runs whole at tiny sizes, compares like with like, and says what it measured."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import contrastive_loss, contrastive_step, generative_step, loader, training
from models.config import InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL

TINY = InternVLConfig(
    vision=VisionConfig(
        image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96
    ),
    text=TextConfig(vocab_size=64, hidden_size=48, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4),
    embed_dim=16,
    attn_pool_num_heads=2,
    num_query_token=4,
    context_length=80,
)


def test_it_writes_a_whole_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.delenv(loader.PICTURES, raising=False)
    # A fresh process for each loss takes seconds; tests of the loss's own benchmark start them.
    monkeypatch.setattr(contrastive_loss, "grown", lambda name, *_: {"ours": 1000}.get(name, 4000))
    parts = {
        "contrastive_step": partial(contrastive_step.measure, TINY, 4, 2),
        "generative_step": partial(generative_step.measure, TINY, 8, 2),
        "contrastive_loss": partial(contrastive_loss.measure, 96, 16, 2),
        "loader": loader.measure,
    }
    assert parts.keys() == training.PARTS.keys()
    monkeypatch.setattr(training, "measure", partial(training.measure, parts))
    training.main(tmp_path / "training.json")
    result = json.loads((tmp_path / "training.json").read_text())
    printed = capsys.readouterr().out
    assert {"versions", "commit"} < result.keys()
    for step in ("contrastive_step", "generative_step"):
        found = result[step]
        assert all(seconds > 0 for seconds in found["cpu_seconds"].values())
        for pair, told in found["ratios"].items():
            assert 0 < told["low"] <= told["ratio"] <= told["high"] and pair in printed
    for pair, told in result["contrastive_step"]["ratios"].items():
        slow, fast = (result["contrastive_step"]["cpu_seconds"][name] for name in pair.split(" / "))
        assert told["ratio"] == pytest.approx(slow / fast, rel=0.2), "both are rounded"
    goals = {name: told["goal"] for name, told in result["contrastive_step"]["ratios"].items() if told["goal"]}
    assert goals == contrastive_step.GOALS
    assert "memory of the loss, ours / by the book" in printed and "loader: skipped" in printed


def test_the_loader_has_its_lines() -> None:
    told = {"ratio": 1.2, "interval_95": [1.1, 1.3]}
    read = {"ratios": {"webdataset / ours": told}, "goals": loader.GOALS, "waiting_share": {"2": 0.1}}
    nothing: dict[str, Any] = {"ratios": {}, "memory_share_of_ours": {}, "memory_goal": 1 / 3}
    result = {"contrastive_step": nothing, "generative_step": nothing, "contrastive_loss": nothing, "loader": read}
    lines = training.table(result).splitlines()
    assert lines[1].split() == ["loader,", "webdataset", "/", "ours", "1.20", "1.10", "to", "1.30", ">=1.00"]
    assert lines[2].split()[-1] == "0.10" and len(lines) == 3


def test_towers_are_of_equal_size_and_both_learn() -> None:
    ours, theirs = InternVL(TINY, generative=False), contrastive_step.their_model(TINY)
    found, wanted = contrastive_step.weights(theirs), contrastive_step.weights(ours)
    assert wanted["vision"] > 0 and wanted["text"] > 0
    assert all(found[tower] == pytest.approx(wanted[tower], rel=0.02) for tower in wanted)
    steps = contrastive_step.candidates(TINY, 4)
    for name, step in steps.items():
        first = step()
        assert step() < first, f"{name}: the same batch twice, so the loss falls"


def test_towers_of_other_sizes_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = TINY.model_copy(update={"text": TINY.text.model_copy(update={"intermediate_size": 192})})
    right = contrastive_step.their_model
    monkeypatch.setattr(contrastive_step, "their_model", lambda config, **given: right(wider, **given))
    with pytest.raises(RuntimeError, match="time means nothing"):
        contrastive_step.candidates(TINY, 4)


def test_half_of_the_patches_are_masked_and_texts_keep_their_lengths() -> None:
    torch.manual_seed(0)
    given = contrastive_step.batches(TINY, 4)
    assert given["masked"]["keep_patches"].sum(dim=(1, 2)).tolist() == [8] * 4
    assert given["masked"]["pixel_values"].shape == (4, 8, 3 * 8 * 8)
    assert given["full"]["attention_mask"].all() and given["full"]["input_ids"].shape == (4, 80)
    assert 0 < given["mixed"]["attention_mask"].float().mean() < 1
