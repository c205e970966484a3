"""Zero-shot classification from pictures to numbers: planted models, order, batches, CLIP_benchmark's own road."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification as reference
from torchvision import transforms
from worlds import COLOURS, ColourJudge, FakeSubject, ListedExamples, Published, coloured, plain, tiny_judge, torn

from models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from stages.evaluations.base import Outcome
from stages.evaluations.zero_shot_classification import Settings, run
from stages.manifest import ManifestError

FEW = ("a photo of a {c}.", "{c}")


def measured(outcome: Outcome) -> dict[str, float]:
    return {measure.name: measure.value for measure in outcome.measures}


def test_a_model_that_knows_colours_gets_them_all_right() -> None:
    subject, examples = FakeSubject(ColourJudge()), coloured(3)
    found = run(subject, examples, Settings(), "colours")
    top1 = found.measures[0]
    assert (top1.name, top1.value, top1.n, top1.chance) == ("top1", 1.0, 12, pytest.approx(0.25))
    assert found.confusion is not None and (found.confusion == 3 * np.eye(4, dtype=int)).all()
    assert found.examples == [] and found.classes == tuple(COLOURS)
    assert [each["recall"] for each in found.facts["per_class"]] == [1.0] * 4
    assert len(found.facts["templates"]) == 80
    assert "no published prompts of its own" in found.notes[0]
    assert subject.said[-1] == (4, 4, "classes")


def test_mistakes_are_shown_with_what_was_right() -> None:
    examples = coloured(2)
    wrong = replace(examples, labels=[1, *examples.labels[1:]])
    found = run(FakeSubject(ColourJudge()), wrong, Settings(templates=FEW), "colours")
    assert measured(found)["top1"] == pytest.approx(7 / 8)
    (mistake,) = found.examples
    assert dict(mistake.lines)["right"] == "green" and dict(mistake.lines)["nearest"] == "red"
    assert mistake.right is False and dict(mistake.lines)["example"] == "0000"
    assert found.scores["top1"] == [0.0] + [1.0] * 7
    assert len(found.keys) == 8


def test_equal_prompts_tie_and_are_no_answer() -> None:
    names = ("red", "red", "blue", "white")
    found = run(FakeSubject(ColourJudge()), coloured(2), Settings(templates=FEW, class_names=names), "colours")
    assert measured(found)["top1"] == 0.5
    # Two pictures are red, and two green, which is as far from everything that has a name here.
    assert "4 examples have two nearest classes" in " ".join(found.notes)


@dataclass
class SeveralRight(ListedExamples):
    right: tuple[tuple[int, ...], ...] = ()

    def right_labels(self, number: int) -> tuple[int, ...]:
        return self.right[number]


def test_several_right_classes_give_mean_average_precision_first_where_asked() -> None:
    shown = [[plain(colour)] for colour in ("red", "green", "blue", "white")]
    examples = SeveralRight(shown, classes=tuple(COLOURS), right=((0, 1), (1,), (), (3,)))
    found = run(FakeSubject(ColourJudge()), examples, Settings(templates=FEW, metric="mean_ap"), "voc")
    assert found.measures[0].name == "mean_ap" and measured(found)["top1"] == 1.0
    assert found.measures[0].n == 3 and len(found.keys) == 3
    assert "1 of 4 examples have no right class" in found.notes[0]
    assert np.mean(found.scores["mean_ap"]) == pytest.approx(found.measures[0].value)


@pytest.mark.parametrize("queries", [False, True])
def test_order_and_batches_change_nothing(queries: bool) -> None:
    examples = coloured(4)
    judge = tiny_judge(generative=True, batch_size=16)
    settings = Settings(templates=FEW, queries=queries)
    usual = run(FakeSubject(judge), examples, settings, "colours")
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    names = [f"{number:04d}" for number in order]
    mixed = ListedExamples(
        [examples.shown[number] for number in order],
        examples.classes,
        [examples.labels[number] for number in order],
        names=names,
    )
    again = run(FakeSubject(tiny_judge(generative=True, batch_size=3)), mixed, settings, "colours")
    assert measured(again)["top1"] == measured(usual)["top1"]
    assert (again.confusion == usual.confusion).all() if usual.confusion is not None else False
    known = dict(zip(usual.keys, usual.scores["top1"], strict=True))
    assert [known[key] for key in again.keys] == again.scores["top1"]


def test_vectors_are_computed_once_for_a_model_and_its_data() -> None:
    subject, examples = FakeSubject(tiny_judge()), coloured(2)
    first = run(subject, examples, Settings(templates=FEW), "colours")
    assert subject.made == 2
    again = run(subject, examples, Settings(templates=FEW), "colours")
    assert subject.made == 2 and again.measures == first.measures
    run(subject, examples, Settings(templates=("{c}",)), "colours")
    assert subject.made == 3


def test_the_whole_road_equals_clip_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reference, "float", lambda value: value.item() if hasattr(value, "item") else float(value), raising=False
    )
    subject = FakeSubject(tiny_judge())
    classes = ("red", "green", "blue", "white", "old", "new")
    shown = [[torn(number)] for number in range(60)]
    labels = [number % 6 for number in range(60)]
    found = run(subject, ListedExamples(shown, classes, labels), Settings(templates=FEW), "torn")
    look = transforms.Compose(
        [
            transforms.Resize(16, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    pixels = torch.stack([look(picture) for (picture,) in shown])
    loader: Any = type("Loader", (list,), {"dataset": type("Dataset", (), {"classes": classes})})(
        zip(pixels.split(16), torch.tensor(labels).split(16), strict=True)
    )
    model = Published(subject.judge)
    theirs = reference.evaluate(model, loader, model.tokens, classes, list(FEW), "cpu", amp=False)
    ours = measured(found)
    assert found.confusion is not None and (found.confusion.sum(axis=0) > 0).sum() > 1
    assert ours["top1"] == pytest.approx(theirs["acc1"], abs=1e-6)
    assert ours["top5"] == pytest.approx(theirs["acc5"], abs=1e-6)
    assert ours["mean_class_recall"] == pytest.approx(theirs["mean_per_class_recall"], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"labels": [9] * 8}, {}, "has label 9, and there are 4 classes"),
        ({"shown": [[]] * 8}, {}, "0000 shows no picture"),
        ({}, {"queries": True}, "has no queries"),
        ({}, {"metric": "top5"}, "top5 says nothing where there are 4 classes"),
    ],
)
def test_what_cannot_be_measured_is_named(changes: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    examples = replace(coloured(2), **changes)
    with pytest.raises(ManifestError, match=said):
        run(FakeSubject(tiny_judge()), examples, Settings(templates=FEW, **settings), "colours")


def test_unlabelled_data_is_refused() -> None:
    examples = SeveralRight([[plain("red")]] * 2, classes=("red", "blue"), right=((), ()))
    with pytest.raises(ManifestError, match="no example of colours has a label"):
        run(FakeSubject(ColourJudge()), examples, Settings(templates=FEW), "colours")
