"""The benchmark runs and says what it measured; how fast is nothing a test can hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import models, timing
from models.config import VisionConfig

TINY = VisionConfig(
    image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48
)


def test_it_writes_a_whole_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(models, "measure", lambda measure=models.measure: measure(TINY, batch_size=2, rounds=3))
    models.main(tmp_path / "results" / "models.json")
    result = json.loads((tmp_path / "results" / "models.json").read_text())
    names = ["transformers", "ours", "open_clip", "ours, half masked", "open_clip, half masked"]
    assert list(result["cpu_seconds_per_step"]) == names
    assert all(seconds > 0 for seconds in result["cpu_seconds_per_step"].values())
    assert set(models.GOALS) < set(result["ratios"])
    for pair, ratio in result["ratios"].items():
        slow, fast = pair.split(" / ")
        wanted = result["cpu_seconds_per_step"][slow] / result["cpu_seconds_per_step"][fast]
        assert ratio["ratio"] == pytest.approx(wanted)
        low, high = ratio["interval_95"]
        assert 0 < low <= high
    assert set(result["versions"]) == {"torch", "transformers", "open_clip_torch"}
    assert "commit" in result and result["size"]["hidden_size"] == 24
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


def test_towers_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    right = models.vision_to_native
    monkeypatch.setattr(models, "vision_to_native", lambda weights: {k: 1.01 * v for k, v in right(weights).items()})
    with pytest.raises(RuntimeError, match="differ"):
        models.candidates(TINY, 2)


def test_candidates_take_turns_and_the_first_rounds_are_dropped() -> None:
    order: list[str] = []
    found = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, dropped=2)
    assert order == ["a", "b"] * 5
    assert {name: len(each) for name, each in found.items()} == {"a": 3, "b": 3}


def test_the_interval_holds_the_ratio_and_narrows() -> None:
    random = np.random.default_rng(0)
    widths = []
    for rounds in (8, 200):
        ratio, low, high = timing.ratio_of_medians(random.normal(2, 0.1, rounds), random.normal(1, 0.05, rounds))
        assert low <= ratio <= high and ratio == pytest.approx(2, abs=0.2)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert timing.ratio_of_medians(np.full(5, 3.0), np.full(5, 2.0)) == (1.5, 1.5, 1.5)


def test_an_unknown_benchmark_is_named(capsys: Any) -> None:
    assert command.main(["towers"]) == 2
    assert f"there are {', '.join(command.BENCHMARKS)}" in capsys.readouterr().err
