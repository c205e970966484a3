"""Numbers of zero-shot classification: by hand, and equal to CLIP_benchmark's on the same vectors."""

from typing import Any

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification as reference
from torch import Tensor
from worlds import FakeSubject, ListedExamples, plain, tiny_judge

from stages.evaluation_metrics import Bools, Floats
from stages.evaluations.classifying import (
    Answers,
    answer,
    average_precision_parts,
    class_recall_parts,
    confusion,
    mean_ap_measure,
    mean_recall_measure,
    nearest_mistakes,
    top_k,
    top_measure,
)
from stages.evaluations.embedding import picture_vectors, unit


def answers_of(scores: Any, labels: list[list[int]]) -> Answers:
    table = np.array(scores, dtype=float)
    right = np.array([[number in each for number in range(table.shape[1])] for each in labels])
    return Answers(np.arange(len(table)), right, table)


def planted(examples: int, classes: int, signal: float, seed: int = 0) -> tuple[Floats, Floats, list[int]]:
    """Return vectors of pictures, of classes, and labels; `signal` says how near a picture is to its class."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(classes, 32)))
    labels = rng.integers(0, classes, examples).tolist()
    return unit(rng.normal(size=(examples, 32)) * 0.3 + signal * centres[labels]), centres, labels


def one_hot(labels: list[int], classes: int) -> Bools:
    return np.eye(classes, dtype=bool)[labels]


class Loader(list):
    """Batches, with the dataset that CLIP_benchmark asks for its classes."""

    def __init__(self, targets: Tensor, classes: int) -> None:
        numbers = torch.arange(len(targets))
        super().__init__(zip(numbers.split(7), targets.split(7), strict=True))
        self.dataset = type("Dataset", (), {"classes": [str(number) for number in range(classes)]})()


class Model:
    """Gives back the vectors that it was given."""

    def __init__(self, pictures: Floats, texts: Floats) -> None:
        self.pictures, self.texts = torch.from_numpy(pictures), torch.from_numpy(texts)

    def encode_image(self, numbers: Tensor) -> Tensor:
        return self.pictures[numbers]

    def encode_text(self, numbers: Tensor) -> Tensor:
        return self.texts[numbers]


@pytest.fixture(autouse=True)
def _numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CLIP_benchmark make numbers of arrays with one element, which NumPy 2 no longer does by itself."""

    def number(value: Any) -> float:
        return float(value.item() if isinstance(value, np.ndarray) else value)

    monkeypatch.setattr(reference, "float", number, raising=False)


def clip_benchmark(pictures: Floats, texts: Floats, targets: Tensor, templates: int) -> dict[str, float]:
    """Return what CLIP_benchmark says; texts are numbered class by class."""
    classes = len(texts) // templates
    found: dict[str, float] = reference.evaluate(
        Model(pictures, texts),
        Loader(targets, classes),
        lambda sentences: torch.tensor([int(sentence) for sentence in sentences]),
        [str(number) for number in range(classes)],
        {str(number): [str(number * templates + each) for each in range(templates)] for number in range(classes)},
        "cpu",
        amp=False,
    )
    return found


@pytest.mark.parametrize("signal", [0.0, 0.15, 0.4, 3.0])
def test_accuracies_equal_those_of_clip_benchmark(signal: float) -> None:
    pictures, classes, labels = planted(150, 12, signal)
    found = clip_benchmark(pictures, classes, torch.tensor(labels), templates=1)
    answers = answer(pictures, classes, one_hot(labels, 12))
    assert top_k(answers, 1).mean() == pytest.approx(found["acc1"], abs=1e-6)
    assert top_k(answers, 5).mean() == pytest.approx(found["acc5"], abs=1e-6)
    recall = mean_recall_measure("b", "en", answers)
    assert recall.value == pytest.approx(found["mean_per_class_recall"], abs=1e-6)
    assert class_recall_parts(answers).mean() == pytest.approx(recall.value)


@pytest.mark.parametrize("signal", [0.0, 0.2, 3.0])
def test_average_precision_equals_that_of_clip_benchmark(signal: float) -> None:
    pictures, classes, labels = planted(120, 6, signal)
    right = one_hot(labels, 6) | (np.random.default_rng(3).random((120, 6)) < 0.1)
    found = clip_benchmark(pictures, classes, torch.from_numpy(right), templates=1)
    answers = answer(pictures, classes, right)
    measure = mean_ap_measure("b", "en", answers)
    assert measure.value == pytest.approx(found["mean_average_precision"], abs=1e-6)
    assert average_precision_parts(answers).mean() == pytest.approx(measure.value)
    assert measure.low <= measure.value <= measure.high
    assert measure.chance == pytest.approx(right.mean())


def test_average_precision_by_hand() -> None:
    # Ranked by class 0: right, wrong, right: (1/1 + 2/3) / 2; by class 1: wrong, right, wrong: 1/2.
    answers = answers_of([[0.9, 0.1], [0.8, 0.7], [0.7, 0.9]], [[0], [1], [0]])
    assert average_precision_parts(answers).mean() == pytest.approx((5 / 6 + 1 / 2) / 2)
    tied = answers_of([[0.5, 0.0], [0.5, 0.0]], [[0], [1]])
    assert average_precision_parts(tied).mean() == pytest.approx(0.5)


def test_a_tie_is_no_answer_and_several_labels_are_all_right() -> None:
    answers = answers_of([[0.9, 0.9, 0.1], [0.9, 0.9, 0.1], [0.2, 0.1, 0.3]], [[0], [0, 1], [1]])
    assert answers.chosen.tolist() == [-1, -1, 2]
    assert top_k(answers, 1).tolist() == [False, True, False]
    assert top_k(answers, 2).tolist() == [True, True, False]
    assert confusion(answers).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_recall_of_classes_weighs_a_rare_one_as_a_common_one() -> None:
    answers = answers_of([[1, 0, 0]] * 9 + [[1, 0, 0]], [[0]] * 9 + [[1]])
    found = mean_recall_measure("b", "en", answers)
    assert found.value == 0.5 and top_k(answers, 1).mean() == 0.9
    assert found.chance == pytest.approx(1 / 3)
    # Each class is all right or all wrong; that alone does not make the number sure.
    assert found.low < found.high
    assert class_recall_parts(answers).mean() == pytest.approx(0.5)


def test_examples_without_a_right_class_count_nowhere() -> None:
    vectors = np.eye(3)
    right = np.array([[True, False, False], [False, False, False], [False, False, True]])
    answers = answer(vectors, np.eye(3), right)
    assert answers.rows.tolist() == [0, 2]
    assert top_k(answers, 1).all()


def test_mistakes_come_nearest_first_and_equal_ones_by_their_keys() -> None:
    answers = answers_of([[0.5, 0.6], [0.9, 0.1], [0.2, 0.9], [0.5, 0.6]], [[0]] * 4)
    assert nearest_mistakes(answers, ["d", "c", "b", "a"], 3) == [3, 0, 2]
    assert nearest_mistakes(answers, ["d", "c", "b", "a"], 1) == [3]


def test_a_model_of_pure_chance_is_within_chance_and_a_perfect_one_is_perfect() -> None:
    outside = 0
    for seed in range(40):
        pictures, classes, labels = planted(200, 10, 0.0, seed)
        for k in (1, 5):
            found, _ = top_measure("b", "en", k, answer(pictures, classes, one_hot(labels, 10)))
            assert found.chance == pytest.approx(k / 10)
            outside += not found.low <= k / 10 <= found.high
    assert outside <= 10
    pictures, classes, labels = planted(200, 10, 50.0)
    found, hits = top_measure("b", "en", 1, answer(pictures, classes, one_hot(labels, 10)))
    assert found.value == 1.0 and hits.all() and found.high == 1.0 and found.low < 1.0
    assert found.blind is not None and found.blind < 0.25


def test_equal_vectors_tie_wherever_they_stand() -> None:
    picture, same = unit(np.random.default_rng(0).normal(size=(1, 768))), unit(np.ones((1, 768)))
    answers = answer(np.repeat(picture, 5, axis=0), np.repeat(same, 37, axis=0), one_hot([0, 3, 7, 30, 36], 37))
    assert (answers.chosen == -1).all() and not top_k(answers, 5).any()


def test_classes_of_one_example_do_not_make_the_mean_recall_sure() -> None:
    # A large class that is half right, and 40 classes of one example each, every other one right.
    labels = [0] * 200 + list(range(1, 41))
    said = [0] * 100 + [1] * 100 + [each if each % 2 else 0 for each in range(1, 41)]
    row = mean_recall_measure("b", "en", answers_of(np.eye(41)[said], [[label] for label in labels]))
    assert row.value == pytest.approx(0.5)
    # 40 coins: a standard error of 0.5 / sqrt(40).
    assert row.high - row.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.15)


def test_equal_pictures_tie_in_batches_of_different_sizes() -> None:
    # 23 copies in batches of 4: the last batch of 3 adds its numbers up in another order.
    copies = ListedExamples([[plain("red", noise=1)]] * 23)
    vectors = picture_vectors(FakeSubject(tiny_judge(batch_size=4)), copies, crop=False)
    assert len(np.unique(vectors, axis=0)) > 1
    classes = unit(np.random.default_rng(0).normal(size=(5, vectors.shape[1])))
    scores = answer(vectors, classes, np.ones((23, 5), dtype=bool)).scores
    assert (scores == scores[0]).all()
