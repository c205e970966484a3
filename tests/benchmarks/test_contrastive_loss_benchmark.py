"""The benchmark of the contrastive loss compares equal losses, and its memory is what it says."""

import pytest

from benchmarks.contrastive_loss import GOAL, LOSSES, check, grown


def test_losses_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < check(48, 16) < 1e-4
    monkeypatch.setitem(
        LOSSES, "ours", lambda image, text, scale: contrastive_loss.in_blocks(image, text, 1.01 * scale)
    )
    with pytest.raises(RuntimeError, match="memory and time mean nothing"):
        check(48, 16)


def test_the_square_is_never_held() -> None:
    pairs, square = 2560, 4 * 2560**2
    book, ours = (grown(name, pairs, 64) for name in ("by the book", "ours"))
    assert book > 3 * square, "logits, their softmax in both directions and the gradient"
    assert ours < GOAL * book
