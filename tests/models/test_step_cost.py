"""What a step costs, against what a counter of FLOPs sees; and padding told apart from tokens."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.cost import decoder_macs
from models.internvl import InternVL
from models.step_cost import step_cost
from models.step_work import FROZEN, LEARNS, PASSED, Learning, Products, StepCost, learning

SMALL = InternVLConfig(
    vision=VisionConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ),
    text=TextConfig(
        vocab_size=24,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
    ),
    embed_dim=16,
    attn_pool_num_heads=2,
    num_query_token=3,
    context_length=12,
)

DEEP = SMALL.model_copy(
    update={
        "vision": SMALL.vision.model_copy(update={"num_hidden_layers": 16}),
        "text": SMALL.text.model_copy(update={"num_hidden_layers": 16}),
    }
)
"""What the first layers need not do, a gradient by pixels or words, is a small share here as in real models."""


def counted(objective: nn.Module, given: dict[str, torch.Tensor]) -> int:
    """Return the FLOPs of a forward and a backward pass; the counter knows no fused attention of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(given)["loss"].backward()
    return int(counter.get_total_flops())


def batch(lengths: list[int], width: int) -> dict[str, torch.Tensor]:
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    return {
        "pixel_values": torch.randn(len(lengths), 3, 32, 32),
        "input_ids": torch.ones(len(lengths), width, dtype=torch.int64),
        "attention_mask": mask,
    }


def test_the_cost_without_padding_is_what_is_counted() -> None:
    objective = ContrastiveObjective(InternVL(SMALL, generative=False))
    given = batch([10, 10, 10], 10)
    cost = step_cost(objective, given)
    # The counter knows no fused attention of a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        objective(given)
    assert cost.useful == cost.computed
    assert cost.useful / 3 == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_padding_is_computed_and_not_useful() -> None:
    objective = ContrastiveObjective(InternVL(SMALL, generative=False))
    cost = step_cost(objective, batch([2, 10], 10))
    assert cost.tokens == 12 + 2 * 17 and cost.places == 20 + 2 * 17
    assert cost.useful < cost.computed == step_cost(objective, batch([10, 10], 10)).useful


def test_masked_pictures_cost_less() -> None:
    objective = ContrastiveObjective(InternVL(SMALL, generative=False))
    whole = batch([4, 4], 4)
    half = {**whole, "pixel_values": torch.randn(2, 8, 3 * 64), "keep_patches": torch.ones(2, 4, 4, dtype=torch.bool)}
    assert step_cost(objective, half).useful < step_cost(objective, whole).useful


def test_of_what_is_not_known_tokens_alone_are_counted() -> None:
    labels = torch.tensor([[5, 6, -100, -100], [-100, 7, 8, 9]])
    assert step_cost(object(), {"labels": labels}) == StepCost(tokens=6, places=8)
    assert step_cost(object(), {"image": torch.ones(2)}) == StepCost()


def test_what_learns_is_done_three_times_and_what_it_feeds_twice() -> None:
    one = Products(weights=10, tokens=1)
    assert (LEARNS.flops(one), PASSED.flops(one), FROZEN.flops(one)) == (2 * 33, 2 * 23, 2 * 11)
    adapted = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 2))
    assert learning(adapted.parameters()) == Learning(16 / 80, True)
    assert learning(adapted[0].parameters()) == FROZEN
    assert learning(adapted[0].parameters(), below=True) == PASSED


def test_a_frozen_text_tower_is_passed_once() -> None:
    model = InternVL(SMALL, generative=False)
    given = batch([10, 10], 10)
    whole = step_cost(ContrastiveObjective(model), given).useful
    model.qllama.requires_grad_(False)
    text = 2 * 2 * decoder_macs(SMALL.text, 10)
    assert whole - step_cost(ContrastiveObjective(model), given).useful == 2 * text


@pytest.mark.parametrize("generative", [False, True])
def test_forward_and_backward_are_what_is_counted(generative: bool) -> None:
    objective = ContrastiveObjective(InternVL(DEEP, generative=generative))
    objective.model.qllama.lm_head.requires_grad_(False)
    given = batch([10, 10, 10], 10)
    assert step_cost(objective, given).useful == pytest.approx(counted(objective, given), rel=0.01)
