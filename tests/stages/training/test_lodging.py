"""A model that is too large for the GPU passes through it layer by layer, and says the same."""

import logging
from itertools import chain
from typing import Any

import pytest
import torch
from chat_models import chat_session
from torch import Tensor, nn

from models.chat import InternVLChat
from stages.chat_batches import Example
from stages.chat_measuring import readings
from stages.training import lodging
from stages.training.lodging import lodge, settle
from stages.training.sharding import layers_of

HERE = torch.device("cpu")
"""Stands for a GPU: what passes through it is a copy, here as there."""


class Stack(nn.Module):
    """Four layers of 400 bytes, and 40 bytes in none."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(10, 10, bias=False) for _ in range(4))
        self.norm = nn.Parameter(torch.ones(10))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden).tanh()
        return hidden * self.norm


def size_of(module: nn.Module) -> int:
    return sum(each.nbytes for each in chain(module.parameters(), module.buffers()))


def at(module: nn.Module) -> list[int]:
    return [each.data_ptr() for each in module.parameters()]


def visitors(module: nn.Module) -> list[set[int]]:
    """Return a list that grows, whenever a layer runs, by the numbers of the layers that are away from home."""
    found: list[set[int]] = []
    layers = layers_of(module)
    homes = [at(layer) for layer in layers]

    def noted(*_: Any) -> None:
        found.append({number for number, layer in enumerate(layers) if at(layer) != homes[number]})

    for layer in layers:
        layer.register_forward_hook(noted)  # before the layers pass, so it is called before they go home
    return found


@pytest.mark.parametrize(
    ("room", "passing"),
    [(1640, set()), (1639, {2, 3}), (1240, {2, 3}), (1239, {1, 2, 3}), (840, {1, 2, 3}), (440, {0, 1, 2, 3})],
)
def test_as_few_layers_pass_as_can_be_and_one_at_a_time(room: int, passing: set[int]) -> None:
    stack = Stack()
    away = visitors(stack)
    given = torch.randn(3, 10)
    wanted = stack(given)
    away.clear()
    said = settle(stack, HERE, room)
    assert torch.equal(stack(given), wanted)
    assert away == [{number} & passing for number in range(4)]
    assert said.startswith("measuring on cpu") and ("passing" in said) == bool(passing)
    assert not passing or f"{len(passing)} of 4 layers" in said


def test_where_not_one_layer_fits_all_is_measured_on_the_cpu() -> None:
    stack = Stack()
    away = visitors(stack)
    said = settle(stack, torch.device("cuda"), 439)
    assert said.startswith("measuring on the CPU, which takes long: its weights of 1,640 bytes do not fit cuda")
    stack(torch.randn(3, 10))
    assert away == [set()] * 4


def test_a_chat_model_says_the_same_and_its_weights_stay_what_they_are() -> None:
    model = chat_session().model
    shown = [model.config.image_context_token_id] * model.config.num_image_token
    examples = [
        Example([*front, 5, 6, number, 8], [-100] * (len(front) + 1) + [6, number, 8], pixels)
        for number, (front, pixels) in enumerate([([], None), (shown, torch.randn(1, 3, 48, 48))], start=9)
    ]

    def read(model: InternVLChat) -> list[Tensor]:
        return [each.losses for each in readings(model, examples)]

    wanted, weights = read(model), {name: each.clone() for name, each in model.state_dict().items()}
    homes, away = at(model), visitors(model)
    language = model.language_model.model.layers
    assert "2 of 4 layers passing" in settle(model, HERE, size_of(model) - size_of(language[0]))
    assert all(torch.equal(one, other) for one, other in zip(read(model), wanted, strict=True))
    assert away == [set(), set(), {2}, {3}]
    assert at(model) == homes and all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())


def test_a_layer_goes_home_when_it_fails() -> None:
    stack = Stack()
    homes = at(stack)
    settle(stack, HERE, 440)
    with pytest.raises(RuntimeError, match="shapes"):
        stack(torch.randn(3, 11))
    assert at(stack) == homes


def test_a_gpu_is_asked_for_its_free_memory_and_the_choice_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("emptied"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 80 << 30))
    monkeypatch.setattr(lodging, "settle", lambda _, device, room: given.append((device, room)) or "chosen")
    stack, gpu = Stack(), torch.device("cuda", 1)
    assert lodge(stack, HERE) == "" and not given
    with caplog.at_level(logging.INFO):
        assert lodge(stack, gpu) == "chosen"
    assert given == ["emptied", (gpu, 800)] and "chosen" in caplog.text
