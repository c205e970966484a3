"""Answers to conversations kept aside, beside what is read of another picture: never of the own one."""

from typing import Any

import pytest

from stages import evaluation_dialogue
from stages.evaluation_dialogue import held_out

PICTURES = {3: 10, 4: 10, 6: 10, 7: 11, 9: 11, 12: 12}
"""Conversation -> its picture; those of one picture are neighbours."""


class Told:
    """Conversations of which nothing is known but their pictures."""

    def told_by(self, number: int) -> tuple[int, int]:
        return PICTURES[number], PICTURES[number]


def looked(session: Any, data: Any, numbers: Any, pictures: Any) -> tuple[list[float], list[bool]]:
    """Return that an answer is likelier and right beside the own picture."""
    helped = [PICTURES[one] == PICTURES[other] for one, other in zip(numbers, pictures, strict=True)]
    return [1.0 if each else 2.0 for each in helped], helped


def measured(numbers: list[int]) -> dict[str, Any]:
    found = held_out(None, Told(), numbers, "held_out", "all")  # type: ignore[arg-type]
    return {each.name: each for each in found}


def test_no_answer_is_called_blind_beside_its_own_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_dialogue, "_read", looked)
    found = measured(list(PICTURES))
    assert found["own_picture_helps_the_answer"].value == 1 and found["own_picture_helps_the_answer"].n == 6
    assert found["answers_exact"].blind == 0 and found["answer_loss"].blind == 2
    same = measured([3, 4, 6])
    assert set(same) == {"answer_loss", "answers_exact"} and same["answers_exact"].blind is None
