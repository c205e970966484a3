"""Vectors of a model whose training diverged are refused, and never remembered."""

from collections.abc import Callable

import pytest
import torch
from worlds import FakeSubject, coloured, tiny_judge

from stages.evaluation_metrics import Floats
from stages.evaluations.embedding import class_vectors, picture_vectors, text_vectors
from stages.manifest import ManifestError

EXAMPLES = coloured(2)


@pytest.mark.parametrize(
    ("take", "said"),
    [
        (lambda subject: picture_vectors(subject, EXAMPLES, crop=False), "8 of 8 examples"),
        (lambda subject: class_vectors(subject, EXAMPLES, [["red"], ["a", "b"]]), "2 of 2 classes"),
        (lambda subject: text_vectors(subject, EXAMPLES, ["red", "blue", "x"]), "3 of 3 texts"),
    ],
)
def test_numbers_that_are_none_are_refused_before_they_are_kept(
    take: Callable[[FakeSubject], Floats], said: str
) -> None:
    whole = FakeSubject(tiny_judge())
    assert torch.from_numpy(take(whole)).isfinite().all() and whole.made == 1
    broken = FakeSubject(tiny_judge())
    with torch.no_grad():
        for weights in broken.towers.parameters():
            weights.fill_(torch.nan)
    with pytest.raises(ManifestError, match=f"tiny gives numbers that are not finite for {said}; its training"):
        take(broken)
    assert not broken.kept
