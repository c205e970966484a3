"""Retrieval from pictures to recall: by hand, equal to CLIP_benchmark's, planted models, repeated captions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_retrieval as reference
from pydantic import ValidationError
from torch import Tensor
from torchvision import transforms
from worlds import ColourJudge, FakeSubject, ListedExamples, Published, coloured, plain, tiny_judge, torn

from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from stages.evaluation_metrics import Floats
from stages.evaluations.base import Outcome
from stages.evaluations.embedding import unit
from stages.evaluations.retrieval import Settings, rank, run
from stages.manifest import ManifestError


def measured(outcome: Outcome) -> dict[str, float]:
    return {measure.name: measure.value for measure in outcome.measures}


def captioned(counts: list[int]) -> ListedExamples:
    """Return examples without pictures, with as many captions each."""
    said = [[f"{number} {each}" for each in range(count)] for number, count in enumerate(counts)]
    return ListedExamples([[plain("red")]] * len(counts), said=said)


class Planted(FakeSubject):
    """A subject that has said already what it thinks of all texts."""

    def __init__(self, texts: Floats) -> None:
        super().__init__(tiny_judge())
        self.texts = texts

    def remembered(self, what: str, examples: Any, make: Any) -> Floats:
        assert what.startswith("texts")
        return self.texts


class Vectors:
    """A model that gives back the vectors it was made with."""

    def encode_image(self, vectors: Tensor) -> Tensor:
        return vectors

    encode_text = encode_image


def clip_benchmark(pictures: Floats, texts: Floats, counts: list[int], ks: list[int]) -> dict[str, float]:
    starts = np.cumsum([0, *counts])
    batches = []
    for start in range(0, len(pictures), 7):
        rows = range(start, min(start + 7, len(pictures)))
        said = [list(range(starts[row], starts[row + 1])) for row in rows]
        batches.append((torch.from_numpy(pictures[rows]), said))
    found: dict[str, float] = reference.evaluate(
        Vectors(), batches, lambda numbers: torch.from_numpy(texts[numbers]), "cpu", amp=False, recall_k_list=ks
    )
    return found


@pytest.mark.parametrize("counts", [[1] * 40, [5] * 30, [1, 7, 5, 6, 5, 2] * 6])
@pytest.mark.parametrize("noise", [0.2, 1.0, 100.0])
def test_recall_equals_that_of_clip_benchmark(counts: list[int], noise: float) -> None:
    rng = np.random.default_rng(len(counts))
    pictures = unit(rng.normal(size=(len(counts), 24)))
    texts = unit(np.repeat(pictures, counts, axis=0) + noise * rng.normal(size=(sum(counts), 24)))
    ours = measured(rank(Planted(texts), captioned(counts), pictures, Settings(), "planted"))
    theirs = clip_benchmark(pictures, texts, counts, [1, 5, 10])
    for k in (1, 5, 10):
        assert ours[f"recall_at_{k}_text_to_image"] == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert ours[f"recall_at_{k}_image_to_text"] == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=1e-6)
    six = [value for name, value in ours.items() if name != "mean_recall"]
    assert len(six) == 6 and ours["mean_recall"] == pytest.approx(np.mean(six))


def test_the_whole_road_equals_clip_benchmarks() -> None:
    judge = tiny_judge()
    # So that texts differ by more than single precision can tell: an untrained tower hardly tells them apart.
    torch.manual_seed(0)
    for weights in (each for each in judge.model.qllama.parameters() if each.ndim > 1):
        weights.data.normal_(std=0.3)
    shown = [torn(number) for number in range(40)]
    said = [[f"torn {number}", f"picture {number} in pieces"] for number in range(40)]
    found = run(FakeSubject(judge), ListedExamples([[each] for each in shown], said=said), Settings(), "torn")
    look = transforms.Compose(
        [
            transforms.Resize((16, 16), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    batches = [
        (torch.stack([look(each) for each in shown[at : at + 8]]), said[at : at + 8]) for at in range(0, 40, 8)
    ]
    model = Published(judge)
    theirs = reference.evaluate(model, batches, model.tokens, "cpu", amp=False, recall_k_list=[1, 5, 10])
    ours = measured(found)
    for k in (1, 5, 10):
        assert ours[f"recall_at_{k}_text_to_image"] == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert ours[f"recall_at_{k}_image_to_text"] == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=1e-6)


def test_a_wrong_caption_stands_in_the_way_as_often_as_it_is_said() -> None:
    examples = ListedExamples([[plain("red")]] * 3, said=[["own"], ["nearer"], ["nearer"]])
    pictures, texts = np.eye(3), unit(np.array([[0.5, 1.0, 0.0], [0.9, 0.5, 0.5]]))
    found = rank(Planted(texts), examples, pictures, Settings(ks=(1, 2, 3)), "planted")
    assert [found.scores[f"recall_at_{k}_image_to_text"][0] for k in (1, 2, 3)] == [0.0, 0.0, 1.0]


def test_scores_have_the_measures_as_their_means() -> None:
    counts = [1, 7, 5, 6] * 9
    rng = np.random.default_rng(4)
    pictures = unit(rng.normal(size=(36, 24)))
    texts = unit(np.repeat(pictures, counts, axis=0) + rng.normal(size=(sum(counts), 24)))
    found = rank(Planted(texts), captioned(counts), pictures, Settings(), "planted")
    for measure in found.measures:
        assert np.mean(found.scores[measure.name]) == pytest.approx(measure.value)
        assert measure.low < measure.value < measure.high
    assert {measure.n for measure in found.measures} == {36}
    assert len(found.keys) == 36


def test_a_model_of_pure_chance_is_within_chance_and_a_perfect_one_is_perfect() -> None:
    outside = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        pictures, texts = unit(rng.normal(size=(80, 16))), unit(rng.normal(size=(240, 16)))
        for measure in rank(Planted(texts), captioned([3] * 80), pictures, Settings(), "chance").measures:
            assert measure.chance is not None
            outside += not measure.low <= measure.chance <= measure.high
    assert outside <= 25 * 7 * 0.15
    pictures = unit(np.random.default_rng(0).normal(size=(80, 16)))
    perfect = rank(Planted(np.repeat(pictures, 3, axis=0)), captioned([3] * 80), pictures, Settings(), "planted")
    assert set(measured(perfect).values()) == {1.0} and not perfect.examples
    assert all(measure.low < 1 == measure.high for measure in perfect.measures)


def test_a_model_that_knows_colours_finds_what_has_its_own() -> None:
    shown = [[plain(colour)] for colour in ("red", "green", "blue", "white")]
    said = [["red"], ["green", "so green"], ["blue"], ["a white one"]]
    found = run(FakeSubject(ColourJudge()), ListedExamples(shown, said=said), Settings(ks=(1, 2)), "colours")
    assert set(measured(found).values()) == {1.0}
    chances = {measure.name: measure.chance for measure in found.measures}
    assert chances["recall_at_1_image_to_text"] == pytest.approx((3 * 1 / 5 + 2 / 5) / 4)
    assert chances["recall_at_2_text_to_image"] == pytest.approx(1 / 2)


def test_a_repeated_caption_is_no_wrong_answer_to_a_picture() -> None:
    shown = [[plain("red")], [plain("red", noise=1)], [plain("blue")]]
    examples = ListedExamples(shown, said=[["it is red"], ["it is red"], ["blue"]])
    strict = run(FakeSubject(ColourJudge()), examples, Settings(ks=(1, 2)), "colours")
    assert measured(strict)["recall_at_1_image_to_text"] == 1.0
    # Two pictures are equally near to their caption: neither is found first, both are among two.
    assert measured(strict)["recall_at_1_text_to_image"] == pytest.approx(1 / 3)
    assert measured(strict)["recall_at_2_text_to_image"] == 1.0
    assert strict.notes == [
        "1 captions occur more than once, word for word; to find a picture by them, as in CLIP_benchmark, their own "
        "picture is right."
    ]
    shared = run(FakeSubject(ColourJudge()), examples, Settings(ks=(1, 2), same_words=True), "colours")
    assert set(measured(shared).values()) == {1.0}
    chances = {measure.name: measure.chance for measure in shared.measures}
    assert chances["recall_at_1_text_to_image"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_mistakes_are_shown_nearest_first() -> None:
    pictures = np.eye(3)
    texts = unit(np.array([[1.0, 0.1, 0.0], [0.6, 0.5, 0.0], [0.0, 0.9, 0.5]]))
    found = rank(Planted(texts), captioned([1, 1, 1]), pictures, Settings(ks=(1,)), "planted")
    assert found.scores["recall_at_1_image_to_text"] == [1.0, 0.0, 1.0]
    (mistake,) = found.examples
    assert dict(mistake.lines)["own caption"] == "1 0" and dict(mistake.lines)["nearest caption"] == "2 0"


@pytest.mark.parametrize("queries", [False, True])
def test_order_and_batches_change_nothing(queries: bool) -> None:
    examples = coloured(4)
    settings = Settings(queries=queries, ks=(1, 5))
    usual = run(FakeSubject(tiny_judge(generative=True)), examples, settings, "colours")
    order = np.random.default_rng(0).permutation(16).tolist()
    mixed = ListedExamples(
        [examples.shown[number] for number in order], said=[examples.said[number] for number in order]
    )
    again = run(FakeSubject(tiny_judge(generative=True, batch_size=3)), mixed, settings, "colours")
    assert measured(again) == pytest.approx(measured(usual))
    for name, values in usual.scores.items():
        assert [values[number] for number in order] == pytest.approx(again.scores[name])


def test_both_ways_of_seeing_are_kept_apart() -> None:
    subject, examples = FakeSubject(tiny_judge(generative=True)), coloured(3)
    towers = run(subject, examples, Settings(), "colours")
    both = run(subject, examples, Settings(queries=True), "colours")
    assert subject.made == 3
    assert towers.scores != both.scores
    run(subject, examples, Settings(queries=True), "colours")
    assert subject.made == 3


def test_the_papers_measure_comes_first() -> None:
    assert run(FakeSubject(ColourJudge()), coloured(2), Settings(), "x").measures[0].name == "mean_recall"
    chosen = Settings(ks=(10,), metric="recall_at_10_image_to_text", language="ko")
    found = run(FakeSubject(ColourJudge()), coloured(2), chosen, "xtd").measures
    assert (found[0].name, found[0].language) == ("recall_at_10_image_to_text", "ko")


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"said": [["a"]] * 7 + [[]]}, {}, "1 of 8 examples of colours have no caption, 0007 among them"),
        ({"shown": [[plain("red")]], "said": [["a"]]}, {}, "has 1 examples, and two"),
        ({}, {"metric": "recall_at_3_text_to_image"}, "no measure 'recall_at_3_text_to_image'"),
        ({}, {"queries": True}, "has no queries"),
    ],
)
def test_what_cannot_be_measured_is_named(changes: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        run(FakeSubject(tiny_judge()), replace(coloured(2), **changes), Settings(**settings), "colours")


@pytest.mark.parametrize("ks", [(), (0,), (1, 1)])
def test_recall_is_at_positive_numbers(ks: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Settings(ks=ks)
