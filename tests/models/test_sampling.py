"""Choosing tokens: what is drawn, how often, and what is no choice."""

import pytest
import torch

from models.sampling import Sampling, nucleus


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(6000, 3)
    drawn = Sampling(temperature=1.0, seed=3).chooser()(logits).bincount() / 6000
    assert torch.allclose(drawn, torch.tensor([0.5, 0.3, 0.2]), atol=0.03)
    cold = Sampling(temperature=0.5, seed=3).chooser()(logits).bincount() / 6000
    assert torch.allclose(cold, torch.tensor([0.25, 0.09, 0.04]) / 0.38, atol=0.03)


def test_a_nucleus_is_the_fewest_that_reach_it() -> None:
    chances = torch.tensor([[0.2, 0.5, 0.3]])
    assert torch.equal(nucleus(chances, 1.0), chances)
    assert torch.allclose(nucleus(chances, 0.81), chances)
    assert torch.allclose(nucleus(chances, 0.79), torch.tensor([[0.0, 0.625, 0.375]]))
    assert torch.allclose(nucleus(chances, 0.01), torch.tensor([[0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("temperature", [1e-3, 1e-39, 5e-324])
def test_however_cold_the_likeliest_is_drawn(temperature: float) -> None:
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 5
    drawn = Sampling(temperature, top_p=0.9).chooser()(logits)
    near = logits.gather(1, drawn[:, None])[:, 0]
    assert torch.allclose(near, logits.amax(dim=1), atol=0.02)


def test_transformers_keeps_the_same_nucleus() -> None:
    from transformers import TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(8, 50) * 3
    for top_p in (0.3, 0.9):
        theirs = TopPLogitsWarper(top_p)(torch.empty(8, 0), logits).softmax(dim=-1)
        assert torch.allclose(nucleus(logits.softmax(dim=-1), top_p), theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, "temperature -1 is below 0"),
        ({"top_p": 0.0}, "top_p 0"),
        ({"top_p": 1.5}, "top_p 1.5"),
    ],
)
def test_what_is_no_choice_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**values)
