"""The benchmark of the decoder compares what is equal, runs, and says what it measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import decoders
from models.config import TextConfig

TINY = TextConfig(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)


def test_it_writes_a_whole_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(decoders, "measure", lambda measure=decoders.measure: measure(TINY, (9, 4, 6), rounds=3))
    decoders.main(tmp_path / "decoders.json")
    result = json.loads((tmp_path / "decoders.json").read_text())
    seconds = result["cpu_seconds"]
    assert len(seconds) == 8 and all(each > 0 for each in seconds.values())
    assert set(result["transformers / ours"]) == set(decoders.RATIOS)
    for what, (native, ours) in decoders.RATIOS.items():
        ratio = result["transformers / ours"][what]
        assert ratio["ratio"] == pytest.approx(seconds[native] / seconds[ours])
        assert 0 < ratio["interval_95"][0] <= ratio["interval_95"][1]
    assert result["size"]["hidden_size"] == 16 and set(result["versions"]) == {"torch", "transformers"}
    printed = capsys.readouterr().out
    assert all(what in printed for what in decoders.RATIOS)


def test_decoders_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decoders._pair

    def other(size: TextConfig) -> Any:
        ours, theirs = right(size)
        with torch.no_grad():
            theirs.lm_head.weight.neg_()
        return ours, theirs

    monkeypatch.setattr(decoders, "_pair", other)
    ids = torch.randint(1, 40, (2, 9))
    with pytest.raises(RuntimeError, match="differ with the same weights in whole rows"):
        decoders.whole_rows(TINY, ids)
    with pytest.raises(RuntimeError, match="differ with the same weights in unequal lengths"):
        decoders.unequal_lengths(TINY, ids, torch.tensor([9, 4]))
    with pytest.raises(RuntimeError, match="different tokens"):
        decoders.greedy_decoding(TINY, ids[:1])
