"""Each filter's examples are its tests: with the default threshold it drops the first and keeps the second."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from filters.base import CaptionFilter, Filter
from filters.catalogue import FILTERS, FLAGS
from filters.policies import caption_quality, clean
from filters.text.captions import Batch

TEXT = ("caption", "language")


def columns(rule: type[Filter], examples: tuple[Any, ...]) -> dict[str, Any]:
    rows = examples if len(rule.reads) > 1 else [(example,) for example in examples]
    return {
        name: pa.array([row[at] for row in rows], pa.string())
        if name in TEXT
        else np.array([row[at] for row in rows], dtype=np.float32)
        for at, name in enumerate(rule.reads)
    }


@pytest.mark.parametrize("reason", FILTERS)
def test_examples(reason: str) -> None:
    rule = FILTERS[reason]
    for examples, wanted in ((rule.examples.dropped, False), (rule.examples.kept, True)):
        kept = rule().keep(Batch(columns(rule, examples), len(examples)))
        assert [each for each, is_kept in zip(examples, kept, strict=True) if is_kept is not np.bool_(wanted)] == []
        assert (rule().keep(columns(rule, examples)) == kept).all()  # shared facts or not


@pytest.mark.parametrize("reason", FILTERS)
def test_examples_are_enough_and_thresholds_have_an_origin(reason: str) -> None:
    rule = FILTERS[reason]
    dropped, kept = rule.examples
    assert len(dropped) >= 2 and len(kept) >= 2 and len(dropped) + len(kept) >= 4
    assert rule.origin and rule.__doc__
    if issubclass(rule, CaptionFilter):
        letters = "".join(filter(None, (*dropped, *kept)))
        assert any(ord(letter) > 0x2FF for letter in letters), "captions of more than one script"
    if rule.threshold:
        assert rule.threshold in rule.model_fields


def test_flags_are_in_no_policy() -> None:
    ours = {rule.reason for policy in (clean(), caption_quality("laion_en")) for rule in policy.filters}
    assert set(FILTERS) >= FLAGS and not FLAGS & ours
