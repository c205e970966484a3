"""What the published numbers are made of, beside libraries and cases worked out by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional import accuracy, f1_score, precision, recall

from stages.evaluation_metrics import interval
from stages.evaluations.base import Question
from stages.evaluations.composed import Number
from stages.evaluations.dialogue_kinds import KindName
from stages.evaluations.dialogue_numbers import numbers


def told(
    kind: KindName, asked: list[Question], said: list[str], hits: list[float], groups: list[str]
) -> dict[str, Number]:
    found = numbers(kind, asked, said, np.array(hits, dtype=np.float64), groups)
    return {each.name: each for each in found}


def alone(count: int) -> list[str]:
    """Return names of pictures about each of which one question is asked."""
    return [str(number) for number in range(count)]


def polar(count: int, splits: tuple[str, ...], seed: int) -> tuple[list[Question], list[str]]:
    rng = np.random.default_rng(seed)
    asked = [
        Question("Is it?", ("yes" if rng.random() < 0.5 else "no",), category=splits[number % len(splits)])
        for number in range(count)
    ]
    return asked, ["Yes." if rng.random() < 0.6 else "No." for _ in asked]


def test_popes_numbers_are_those_of_torchmetrics_in_each_split_and_on_average() -> None:
    splits = ("random", "popular", "adversarial")
    asked, said = polar(120, splits, seed=1)
    found = told("pope", asked, said, [0.0] * 120, alone(120))
    assert next(iter(found)) == "f1"
    each: dict[str, list[float]] = {name: [] for name in ("f1", "precision", "recall", "accuracy")}
    functions = {"f1": f1_score, "precision": precision, "recall": recall, "accuracy": accuracy}
    for split in splits:
        rows = [number for number, question in enumerate(asked) if question.category == split]
        right = torch.tensor([asked[number].answers[0] == "yes" for number in rows]).long()
        yes = torch.tensor([said[number] == "Yes." for number in rows]).long()
        for name, function in functions.items():
            wanted = float(function(yes, right, task="binary"))
            each[name].append(wanted)
            assert found[f"{name}_{split}"].value == pytest.approx(wanted, abs=1e-6)
        assert found[f"yes_share_{split}"].value == pytest.approx(float(yes.float().mean()))
    for name, values in each.items():
        assert found[name].value == pytest.approx(np.mean(values), abs=1e-6)
    row = found["f1"].measure("pope", "en")
    assert row.low < row.value < row.high and row.n == 120


def test_who_never_says_yes_has_no_f1() -> None:
    asked, _ = polar(20, ("random",), seed=2)
    found = told("pope", asked, ["no"] * 20, [0.0] * 20, alone(20))
    assert found["f1"].value == 0 and found["precision"].value == 0 and found["yes_share"].value == 0
    assert found["accuracy"].scores is not None and found["accuracy"].scores.mean() == found["accuracy"].value


def test_mme_adds_shares_of_questions_and_of_whole_pictures() -> None:
    subtasks = ["color"] * 4 + ["OCR"] * 2 + ["code_reasoning"] * 2
    asked = [Question("Is it?", ("Yes",), category=each) for each in subtasks]
    groups = ["1", "1", "2", "2", "1", "1", "1", "1"]
    hits = [1.0, 1, 1, 0, 0, 1, 1, 1]
    found = told("mme", asked, ["yes"] * 8, hits, groups)
    # color: 3/4 and 1/2; OCR: 1/2 and 0; code: 1 and 1
    assert found["mme_score"].value == pytest.approx(75 + 50 + 50 + 0)
    assert found["mme_score_cognition"].value == pytest.approx(200)
    assert found["accuracy_color"].value == 0.75 and found["accuracy_plus_color"].value == 0.5
    assert found["mme_score"].unit == "points" and found["mme_score"].measure("mme", "en").n == 3
    for name in ("mme_score", "mme_score_cognition"):
        scores = found[name].scores
        assert scores is not None and scores.shape == (8,) and scores.mean() == pytest.approx(found[name].value)


def test_chartqa_is_the_mean_of_its_two_halves() -> None:
    asked = [Question("?", ("1",), category=each) for each in ["human"] * 2 + ["augmented"] * 6]
    hits = [1.0, 0, 1, 1, 1, 0, 0, 0]
    found = told("relaxed", asked, ["1"] * 8, hits, alone(8))
    assert found["relaxed_accuracy"].value == pytest.approx((0.5 + 0.5) / 2)
    hits[2] = 0.0
    found = told("relaxed", asked, ["1"] * 8, hits, alone(8))
    assert found["relaxed_accuracy"].value == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["relaxed_accuracy_human"].value == 0.5
    assert found["relaxed_accuracy_human"].measure("chartqa", "en").n == 2
    assert found["relaxed_accuracy_augmented"].value == pytest.approx(1 / 3)
    scores = found["relaxed_accuracy"].scores
    assert scores is not None and scores.mean() == pytest.approx(found["relaxed_accuracy"].value)
    row = found["relaxed_accuracy"].measure("chartqa", "en")
    assert 0 <= row.low < row.value < row.high <= 1


def test_other_kinds_are_means_with_their_categories() -> None:
    asked = [Question("?", ("1",), category=each) for each in ("number", "yes/no", "number")]
    found = told("vqa", asked, ["1"] * 3, [0.3, 1.0, 0.9], alone(3))
    assert list(found) == ["vqa_accuracy", "vqa_accuracy_number", "vqa_accuracy_yes_no"]
    assert found["vqa_accuracy"].value == pytest.approx(2.2 / 3)
    assert found["vqa_accuracy_number"].value == pytest.approx(0.6)


@pytest.mark.parametrize("kind", ["vqa", "pope", "relaxed"])
def test_questions_about_one_picture_are_drawn_together(kind: KindName) -> None:
    asked, said = polar(60, ("random", "popular"), seed=4)
    hits = [
        float(answer[:1].lower() == question.answers[0][:1]) for question, answer in zip(asked, said, strict=True)
    ]
    once = told(kind, asked, said, hits, alone(60))
    thrice = told(kind, asked * 3, said * 3, hits * 3, alone(60) * 3)
    for name, number in once.items():
        row, same = number.measure("b", "en"), thrice[name].measure("b", "en")
        # Asking the same three times tells nothing new.
        assert (same.value, same.low, same.high) == pytest.approx((row.value, row.low, row.high))


def test_equal_answers_about_one_picture_are_as_sure_as_one() -> None:
    found = told("exact", [Question("?", ("1",))] * 6, ["1"] * 6, [1.0] * 6, ["a", "a", "a", "b", "b", "b"])
    assert found["exact_match"].measure("b", "en").low == pytest.approx(0.025**0.5)


def test_a_resample_that_lacks_a_subtask_is_no_bad_model() -> None:
    # Every third resample of pictures has none of OCR's one; a model without a mistake there still has its points.
    subtasks = ["color"] * 16 + ["OCR"] * 2
    asked = [Question("Is it?", ("Yes",), category=each) for each in subtasks]
    hits = [1.0] * 14 + [0.0] * 2 + [1.0] * 2
    found = told("mme", asked, ["yes"] * 18, hits, [str(number // 2) for number in range(18)])
    row = found["mme_score"].measure("mme", "en")
    assert row.value == pytest.approx(2 * 87.5 + 200) and row.low >= 200 + 2 * 100 * 3 / 8


def test_what_each_question_adds_to_popes_numbers_says_how_they_move() -> None:
    asked, said = polar(300, ("random", "popular", "adversarial"), seed=6)
    found = told("pope", asked, said, [0.0] * 300, alone(300))
    for name in ("f1", "accuracy", "precision", "recall", "yes_share"):
        scores = found[name].scores
        assert scores is not None and scores.mean() == pytest.approx(found[name].value)
        row = found[name].measure("pope", "en")
        # Resampled as a plain mean it has the interval of the number itself, nearly.
        low, high = interval(scores, most=9.0)
        assert (low, high) == pytest.approx((row.low, row.high), abs=0.015)
    assert found["f1_random"].scores is None
