"""Drawing wrong pairs by their odds."""

import torch

from models.mining import NONE, draw, fetch_rows, send_rows


def test_draws_follow_the_odds() -> None:
    scores = torch.tensor([0.0, 1.0, -2.0, 3.0]).expand(4000, 4)
    uniform = (torch.arange(4000) + 0.5) / 4000
    drawn = draw(scores, torch.ones(4000, 4, dtype=torch.bool), uniform)
    share = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(share.double(), scores[0].double().softmax(dim=0), atol=1e-3)


def test_what_is_not_allowed_is_never_drawn() -> None:
    scores, allowed = torch.tensor([[9.0, 0.0, 9.0, 0.0]]).expand(50, 4), torch.tensor([[False, True, False, True]])
    drawn = draw(scores, allowed.expand(50, 4), torch.linspace(0, 0.999, 50))
    assert set(drawn.tolist()) == {1, 3} and drawn.tolist() == sorted(drawn.tolist())
    assert draw(scores[:1], torch.zeros(1, 4, dtype=torch.bool), torch.tensor([0.5])).tolist() == [NONE]


def test_the_ends_of_the_interval_lie_within() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [-1e4, 0.0, -1e4], [50.0, -800.0, -800.0]])
    everyone = torch.ones(3, 3, dtype=torch.bool)
    assert draw(scores, everyone, torch.zeros(3)).tolist() == [0, 1, 0]
    almost = torch.full((3,), 1 - 2**-53, dtype=torch.float64)
    assert draw(scores, everyone, almost).tolist() == [2, 1, 0]


def test_alone_rows_are_fetched_and_sent_at_home() -> None:
    values = torch.arange(6).view(3, 2)
    assert fetch_rows(values, torch.tensor([2, 0])).tolist() == [[4, 5], [0, 1]]
    sent, to = send_rows(values, torch.tensor([1, 1, 0]), 3)
    assert sent.tolist() == values.tolist() and to.tolist() == [1, 1, 0]
