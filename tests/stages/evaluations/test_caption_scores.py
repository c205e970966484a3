"""Captions score what pycocoevalcap gives them on the same tokens, for each picture and over all."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from torchmetrics.functional.text import bleu_score

from stages.evaluations import caption_scores
from stages.evaluations.caption_scores import Scored, meteor_program
from stages.evaluations.caption_tokens import words

PHOTOS = Path(__file__).resolve().parents[4] / "shared/data/flickr8k-photos.tar"
WRITTEN = ["a dog runs on the green grass", "two men on a boat", "a red bus", "A child eats.", ""]
RIGHT = [
    ["A dog runs on grass.", "The dog is running over the green lawn", "a brown dog runs"],
    ["Two men sit in a small boat on the lake", "men on a boat"],
    ["a red double-decker bus drives through the city", "a bus is red"],
    ["a child eats an apple", "the little boy is eating"],
    ["a man's hat", "a hat on a man"],
]


def as_tokens(written: list[str], right: list[list[str]]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    def cut(text: str) -> str:
        return " ".join(words(text))

    return (
        {number: [cut(each) for each in captions] for number, captions in enumerate(right)},
        {number: [cut(each)] for number, each in enumerate(written)},
    )


def test_numbers_are_those_of_the_reference_on_the_same_tokens() -> None:
    found = {each.name: each for each in Scored(WRITTEN, RIGHT, "en").numbers(None)}
    assert list(found) == ["cider", "bleu_4", "bleu_3", "bleu_2", "bleu_1", "rouge_l"]
    tokens = as_tokens(WRITTEN, RIGHT)
    value, scores = Cider().compute_score(*tokens)
    assert found["cider"].value == pytest.approx(value, abs=1e-12)
    assert found["cider"].scores == pytest.approx(scores, abs=1e-12) and value > 0.5
    value, scores = Rouge().compute_score(*tokens)
    assert found["rouge_l"].value == pytest.approx(value) and found["rouge_l"].scores == pytest.approx(scores)
    values, _ = Bleu(4).compute_score(*tokens, verbose=0)
    for order, value in enumerate(values, 1):
        assert found[f"bleu_{order}"].value == pytest.approx(value, rel=1e-9) and value > 0.05
        cut = [[" ".join(words(each)) for each in captions] for captions in RIGHT]
        theirs = bleu_score([" ".join(words(each)) for each in WRITTEN], cut, n_gram=order)
        assert found[f"bleu_{order}"].value == pytest.approx(float(theirs), rel=1e-5)
        row = found[f"bleu_{order}"].measure("coco", "en")
        assert row.low < row.value < row.high and row.n == 5 and found[f"bleu_{order}"].scores is None


def test_bleu_of_a_resample_is_that_of_its_pictures() -> None:
    twice = [0, 0, 1, 3, 3]
    bleu = {each.name: each for each in Scored(WRITTEN, RIGHT, "en").bleu()}["bleu_2"]
    drawn = bleu.parts[twice].mean(axis=0)
    again = Scored([WRITTEN[each] for each in twice], [RIGHT[each] for each in twice], "en").bleu()
    assert float(bleu.of(drawn)) == pytest.approx({each.name: each for each in again}["bleu_2"].value)
    both = bleu.of(np.stack([drawn, bleu.parts.mean(axis=0)]))
    assert both == pytest.approx([float(bleu.of(drawn)), bleu.value])


def test_a_persons_caption_scores_most_and_another_pictures_least() -> None:
    own = Scored([each[0] for each in RIGHT], RIGHT, "en").cider()
    other = Scored([each[0] for each in RIGHT[1:] + RIGHT[:1]], RIGHT, "en").cider()
    assert own.scores is not None and other.scores is not None and (own.scores > other.scores).all()


def test_chinese_captions_are_compared_sign_by_sign() -> None:
    written, right = ["一只狗在跑", "两个人"], [["一只狗在草地上跑。"], ["两个人在船上。"]]
    found = {each.name: each for each in Scored(written, right, "zh").numbers(meteor_program("zh"))}
    assert found["bleu_1"].value == pytest.approx(np.exp(1 - 14 / 8)) and "meteor" not in found
    assert {each.name: each for each in Scored(written, right, "en").bleu()}["bleu_1"].value < 1e-6


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
@pytest.mark.skipif(not PHOTOS.exists(), reason=f"needs {PHOTOS}")
def test_real_captions_score_the_same_with_javas_tokens() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with tarfile.open(PHOTOS) as tar:
        members = [each for each in tar if each.name.endswith(".json")][:200]
        told = [json.loads(tar.extractfile(each).read())["captions"] for each in members]  # type: ignore[union-attr]
    written, right = [each[0] for each in told], [each[1:] for each in told]
    cut = PTBTokenizer().tokenize
    theirs = (
        cut({number: [{"caption": each} for each in captions] for number, captions in enumerate(right)}),
        cut({number: [{"caption": each}] for number, each in enumerate(written)}),
    )
    found = Scored(written, right, "en")
    assert found.cider().value == pytest.approx(Cider().compute_score(*theirs)[0], abs=1e-6)
    assert found.bleu()[0].value == pytest.approx(Bleu(4).compute_score(*theirs, verbose=0)[0][3], abs=1e-6)


def test_without_java_there_is_no_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: None)
    assert meteor_program("en") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_meteor_is_measured_where_there_is_java() -> None:
    program = meteor_program("en")
    assert program is not None
    meteor = Scored(WRITTEN[:4], RIGHT[:4], "en").numbers(program)[-1]
    assert meteor.name == "meteor"
    again = Scored([each[0] for each in RIGHT[:4]], RIGHT[:4], "en").meteor(program)
    assert again.value > meteor.value
    assert meteor.value == pytest.approx(0.421034, abs=1e-6)  # what METEOR 1.5 gave
    row = meteor.measure("coco", "en")
    assert row.low < row.value < row.high and row.n == 4
