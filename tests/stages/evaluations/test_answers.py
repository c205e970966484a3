"""Answers are judged as each benchmark's own rules judge them, on cases worked out by hand and beside libraries."""

import pytest
import torch
from torchmetrics.functional.text import edit_distance
from torchvision.ops import box_iou

from stages.evaluations.answers import (
    anls,
    box_hit,
    box_of,
    chosen,
    contains,
    denies,
    edits,
    exact_match,
    overlap,
    relaxed_accuracy,
    vqa_accuracy,
    yes_or_no,
)
from stages.evaluations.caption_tokens import words
from stages.evaluations.vqa_words import normalised


@pytest.mark.parametrize(("agreeing", "wanted"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_leaves_each_person_out(agreeing: int, wanted: float) -> None:
    truths = ["red"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
    assert vqa_accuracy("Red.", truths) == pytest.approx(wanted)
    # As the definition says it, one person after the other.
    left_out = [truths[:number] + truths[number + 1 :] for number in range(10)]
    assert vqa_accuracy("red", truths) == pytest.approx(sum(min(1, each.count("red") / 3) for each in left_out) / 10)


def test_one_answer_of_few_people_is_enough() -> None:
    assert vqa_accuracy("a dog", ["dog"]) == 1 and vqa_accuracy("cat", ["dog", "wolf"]) == 0


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("The  Dog\n", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("well", "well"),  # another word
        ("yes, it is", "yes it is"),
        ("red/white", "red white"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("St. Mary.", "st mary"),
        ("hot-dog", "hot dog"),
        ("black - white", "black white"),
        ("it's", "it's"),
        ("an apple a day", "apple day"),
    ],
)
def test_answers_are_normalised_as_the_challenge_does(said: str, wanted: str) -> None:
    assert normalised(said) == wanted


def test_an_exact_answer_may_differ_in_case_space_and_a_full_stop() -> None:
    assert exact_match(" Left. ", ["left"]) == 1
    assert exact_match("to the left", ["left"]) == 0 and exact_match("", ["left"]) == 0


@pytest.mark.parametrize(
    ("said", "truth", "wanted"),
    [
        ("105", "100", 1), ("105.1", "100", 0), ("95", "100", 1), ("94.9", "100", 0), ("-100", "100", 0),
        ("14.5%", "14", 0), ("14%", "0.14", 1), ("14.5%", "14%", 1), ("0", "0", 1), ("0.01", "0", 0),
        ("Blue", "blue ", 1), ("blueish", "blue", 0), ("about 100", "100", 0), ("", "100", 0),
    ],
)  # fmt: skip
def test_a_number_may_be_five_percent_off(said: str, truth: str, wanted: int) -> None:
    assert relaxed_accuracy(said, [truth]) == wanted


def test_any_right_answer_of_a_chart_will_do() -> None:
    assert relaxed_accuracy("7", ["3", "7.2"]) == 1


def test_anls_counts_what_is_half_right_or_more() -> None:
    assert anls("Hello  World", ["hello world"]) == 1
    assert anls("helo", ["hello"]) == pytest.approx(0.8)
    assert anls("abcd", ["abxy"]) == pytest.approx(0.5)
    assert anls("abcd", ["axyz"]) == 0
    assert anls("helo", ["nothing", "hello"]) == pytest.approx(0.8) and anls("", ["x"]) == 0


@pytest.mark.parametrize(("one", "other"), [("kitten", "sitting"), ("", "abc"), ("flaw", "lawn"), ("same", "same")])
def test_edits_are_those_of_torchmetrics(one: str, other: str) -> None:
    assert edits(one, other) == edits(other, one) == int(edit_distance([one], [other], reduction="sum"))


def test_ocr_answers_hold_the_right_one() -> None:
    assert contains("It says  OPEN  now", ["open"]) == 1 and contains("closed", ["open"]) == 0
    assert contains("x ^ 2 + 1", ["x^2+1"]) == 0 and contains("x ^ 2 + 1", ["x^2+1"], spaces=False) == 1


@pytest.mark.parametrize(
    ("said", "no"),
    [("No", True), ("no, there is none", True), ("There is not.", True), ("Yes", False), ("Maybe. No.", False),
     ("nothing", False), ("", False)],
)  # fmt: skip
def test_pope_takes_everything_for_yes_that_is_no_no(said: str, no: bool) -> None:
    assert denies(said) == no


@pytest.mark.parametrize(
    ("said", "wanted"), [("Yes.", "yes"), (" no", "no"), ("It is, yes", "other"), ("now", "no"), ("", "other")]
)
def test_mme_looks_at_four_signs(said: str, wanted: str) -> None:
    assert yes_or_no(said) == wanted


OPTIONS = ("a cat", "a dog", "two dogs", "no animal")


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"), ("(b)", "B"), ("b.", "B"), ("b", "B"), ("b. a dog", "B"), ("The answer is: b", "B"),
       
        ("option b.", "B"),
        ("Ｂ", "B"), ("（Ｂ）", "B"), ("A and B", ""), ("A or B", ""), ("a.k.a. nothing", ""),
        ("the answer is a man", ""), ("b man", ""), ("(C)", "C"),
        ("B.", "B"), ("B. a dog", "B"), ("D: no animal", "D"),
        ("The answer is C.", "C"), ("answer: (D)", "D"), ("I think option B", "B"), ("It must be C", "C"),
        ("A dog", "B"), ("a cat is there", "A"), ("A", "A"), ("A man", ""), ("B or C", ""), ("two dogs.", "C"),
        ("E", ""), ("", ""), ("the dog", ""), ("a cat and a dog", ""),
        ("答案是B。", "B"), ("C。两只狗", "C"), ("选项D", "D"),
    ],
)  # fmt: skip
def test_the_letter_of_an_option_is_found_or_nothing(said: str, letter: str) -> None:
    assert chosen(said, OPTIONS) == letter


def test_there_are_no_more_options_than_letters() -> None:
    assert chosen("Z", [f"thing {number}" for number in range(26)]) == "Z"
    with pytest.raises(ValueError, match="27 options, and 26 letters"):
        chosen("A", [f"thing {number}" for number in range(27)])


def test_a_box_is_right_from_half_an_overlap_on() -> None:
    assert box_of("it is at [[100, 200,300,400]].") == (0.1, 0.2, 0.3, 0.4)
    assert box_of("nowhere") is None and box_of("[1.2.3, 4, 5, 6]") is None
    truth = "[[0,0,1000,1000]]"
    assert box_hit("[[0,0,1000,500]]", [truth]) == 1 and box_hit("[[0,0,1000,499]]", [truth]) == 0
    assert box_hit("left", [truth]) == 0 and box_hit("[[500,500,500,900]]", [truth]) == 0


def test_overlaps_are_those_of_torchvision() -> None:
    corners = torch.rand(6, 2, 2, generator=torch.Generator().manual_seed(0)).sort(dim=1).values.flatten(1).double()
    wanted = box_iou(corners, corners)
    for row, one in enumerate(corners.tolist()):
        for column, other in enumerate(corners.tolist()):
            assert overlap(tuple(one), tuple(other)) == pytest.approx(float(wanted[row, column]), abs=1e-12)


def test_accents_are_the_same_however_they_are_written() -> None:
    one, two = "\u00e9t\u00e9", "e\u0301te\u0301"
    assert one != two
    for rule in (vqa_accuracy, exact_match, relaxed_accuracy, anls, contains):
        assert rule(one, [two]) == rule(two, [one]) == 1
    assert words(one) == words(two) == [one]
