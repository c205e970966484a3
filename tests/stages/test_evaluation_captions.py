"""Losses of captions in an evaluation: each caption's own mean, and no word from other processes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.losses import caption_losses, labelled
from stages.evaluation_captions import losses


def test_one_process_measures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a training on several processes the first measures while the others wait for it."""

    def asked() -> int:
        raise AssertionError("the other processes were asked; they wait for this one")

    monkeypatch.setattr("models.losses.processes", asked)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 9, (3, 6), generator=drawn)
    labels = ids.clone()
    labels[0, 3:] = labels[2] = -100
    spoken = torch.randn(2, 3, 6, 9, generator=drawn)  # after picture 0 or 1, each row's words

    def prompted(texts: Any, languages: Any) -> tuple[torch.Tensor, ...]:
        return ids, torch.ones_like(ids), labels

    def describe(seen: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return spoken[0] if seen[0] == 0 else spoken[1]

    judge: Any = SimpleNamespace(
        batch_size=3,
        device="cpu",
        texts=SimpleNamespace(prompted=prompted),
        model=SimpleNamespace(ask=lambda seen: (None, seen), describe=describe),
    )
    own, other = losses(judge, torch.arange(3), ["a", "b", "c"], [None] * 3)
    for found, words in ((own, spoken[0]), (other, spoken[1])):
        alone = [caption_losses(words[row, None], labels[row, None]) / labelled(labels[row, None]) for row in (0, 1)]
        assert found == pytest.approx([*(float(each) for each in alone), 0.0]), "nothing is learned of the last"
