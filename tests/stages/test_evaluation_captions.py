"""Losses of captions in an evaluation: each caption's own mean, another picture, no word from other processes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.losses import caption_losses, labelled
from stages.evaluation_captions import loss_measures, losses


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
    for start, words in enumerate(spoken):
        shown = {0: start, 1: 1 - start, 2: start}
        found = losses(judge, torch.arange(2), ["a", "b", "c"], [None] * 3, shown)
        alone = [caption_losses(words[row, None], labels[row, None]) / labelled(labels[row, None]) for row in (0, 1)]
        assert found == pytest.approx([*(float(each) for each in alone), 0.0]), "nothing is learned of the last"


def seeing(asked: list[list[int]]) -> Any:
    """Return a judge that notes which pictures it is shown, and to which the first picture makes all likely."""

    def describe(seen: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        asked.append(seen.tolist())
        return torch.nn.functional.one_hot(ids, 9).float() * (seen == 0)[:, None, None]

    def prompted(texts: Any, languages: Any) -> tuple[torch.Tensor, ...]:
        ids = torch.zeros(len(texts), 4, dtype=torch.long)
        return ids, torch.ones_like(ids), ids

    model = SimpleNamespace(ask=lambda seen: (None, seen), describe=describe)
    return SimpleNamespace(batch_size=2, device="cpu", texts=SimpleNamespace(prompted=prompted), model=model)


def test_another_picture_is_another_where_a_picture_has_several_captions() -> None:
    asked: list[list[int]] = []
    told = [(1, 1), (1, 1), (2, 2), (1, 1)]
    given: Any = (torch.arange(4), ["a"] * 4, [None] * 4, told.__getitem__, "held_out", "all")
    loss, helps = loss_measures(seeing(asked), *given)
    assert asked == [[0, 1], [2, 3], [2, 2], [3, 2]], "the own pictures, then the next other one"
    assert loss.blind is not None and loss.n == 4 and helps.n == 4 and helps.value == 0.25


def test_captions_of_one_picture_are_told_after_no_other() -> None:
    asked: list[list[int]] = []
    given: Any = (torch.arange(3), ["a"] * 3, [None] * 3, lambda place: (7, 7), "held_out", "all")
    (loss,) = loss_measures(seeing(asked), *given)
    assert loss.name == "caption_loss" and loss.blind is None and asked == [[0, 1], [2]]
