"""What a step costs, against what a counter of FLOPs sees; and padding told apart from tokens."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import ContrastiveObjective
from models.internvl import InternVL
from models.step_cost import StepCost, step_cost

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
