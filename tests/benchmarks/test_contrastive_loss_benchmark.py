"""The benchmark of the contrastive loss compares equal losses, and its memory is what it says."""

import pytest
from torch import Tensor

from benchmarks.contrastive_loss import GOAL, LOSSES, check, grown, in_blocks


def test_losses_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < check(48, 16) < 1e-4

    def wrong(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        return in_blocks(image, text, 1.01 * scale)

    monkeypatch.setitem(LOSSES, "ours", wrong)
    with pytest.raises(RuntimeError, match="memory and time mean nothing"):
        check(48, 16)


def test_the_square_is_never_held() -> None:
    pairs, square = 2560, 4 * 2560**2
    book, ours = (grown(name, pairs, 64) for name in ("by the book", "ours"))
    assert book > 3 * square, "logits, their softmax in both directions and the gradient"
    assert ours < GOAL * book
