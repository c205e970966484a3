"""The loss in chunks is the loss, and no tensor ever holds the logits of all places."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import vocabulary_loss
from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig
from models.vocabulary_loss import predicted

VOCABULARY, WIDTH, PLACES = 97, 12, 50


def given() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(PLACES, WIDTH, requires_grad=True)
    head, wanted = nn.Linear(WIDTH, VOCABULARY), torch.randint(0, VOCABULARY, (PLACES,))
    wanted[::3] = head(hidden[::3]).argmax(dim=-1)
    return head, hidden, wanted


def through(head: nn.Linear, hidden: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return losses, what was right, and gradients of places that weigh differently."""
    head.zero_grad()
    hidden.grad = None
    found = predicted(head, hidden, wanted)
    (found.losses * torch.linspace(0, 1, len(wanted))).sum().backward()
    assert head.weight.grad is not None and head.bias.grad is not None and hidden.grad is not None
    return [found.losses.detach(), found.right, head.weight.grad.clone(), head.bias.grad.clone(), hidden.grad]


@pytest.mark.parametrize("chunk", [1, 8, 25, 49, 50])
def test_chunks_decide_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    head, hidden, wanted = given()
    whole = [torch.clone(each) for each in through(head, hidden, wanted)]
    by_the_book = nn.functional.cross_entropy(head(hidden), wanted, reduction="none")
    assert torch.allclose(whole[0], by_the_book, rtol=1e-6) and 0 < whole[1].sum() < PLACES
    monkeypatch.setattr(vocabulary_loss, "PLACES", chunk)
    for ours, theirs in zip(through(head, hidden, wanted), whole, strict=True):
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_no_place_at_all_and_a_head_that_does_not_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden, wanted = given()
    nothing = predicted(head, hidden[:0], wanted[:0])
    assert nothing.losses.shape == nothing.right.shape == (0,)
    wanted_gradient = through(head, hidden, wanted)[-1].clone()
    monkeypatch.setattr(vocabulary_loss, "PLACES", 8)
    head.requires_grad_(False)
    hidden.grad = None
    (predicted(head, hidden, wanted).losses * torch.linspace(0, 1, PLACES)).sum().backward()
    assert hidden.grad is not None and torch.allclose(hidden.grad, wanted_gradient, rtol=1e-5, atol=1e-6)


def places_of(made: object) -> int:
    """Return for how many places something holds logits; the head's own weights are as wide."""
    if not isinstance(made, Tensor) or made.ndim < 2 or made.shape[-1] != VOCABULARY or made.shape[0] == WIDTH:
        return 0
    return made.numel() // VOCABULARY


class Counted(TorchDispatchMode):
    """Notes the most places for which something as wide as the vocabulary was made."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            self.most = max(self.most, places_of(each))
        return made


@contextmanager
def kept() -> Iterator[list[int]]:
    """Tell of the logits that are kept for the backward pass, by their places."""
    found: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if places_of(tensor):
            found.append(places_of(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


@pytest.mark.parametrize(("chunk", "whole"), [(8, False), (1024, True)])
def test_logits_of_all_answers_never_exist_in_a_step_of_the_chat_model(
    monkeypatch: pytest.MonkeyPatch, chunk: int, whole: bool
) -> None:
    monkeypatch.setattr(vocabulary_loss, "PLACES", chunk)
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1}
    config = {
        "vision": {**vision, "intermediate_size": 8},
        "text": {**text, "num_attention_heads": 2},
        "image_context_token_id": VOCABULARY - 1,
        "eos_token_id": 2,
    }
    chat = InternVLChat(ChatConfig.model_validate(config))
    ids = torch.randint(3, VOCABULARY - 1, (2, 60))
    labels = ids.masked_fill(torch.arange(60) < 40, IGNORE)
    learned = 2 * 20
    with Counted() as forward, kept() as waiting:
        loss = chat({"input_ids": ids, "labels": labels})["loss"]
    with Counted() as backward:
        loss.backward()
    assert max(forward.most, backward.most) == (learned if whole else chunk), "never 120, those of all tokens"
    assert bool(waiting) is whole, "in chunks nothing of this width waits for the backward pass"
