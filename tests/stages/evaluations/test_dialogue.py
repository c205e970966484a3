"""What a chat model is asked, about which picture, and how its answers become numbers."""

from typing import Any

import pytest
from chat_models import chat_session
from PIL import Image
from talking import Scripted, Talker, colour_of
from worlds import ListedExamples, plain

from stages.chat import Ask
from stages.evaluations.asking import strangers
from stages.evaluations.base import GROUP, Outcome, Question
from stages.evaluations.dialogue import Settings, rotated, run
from stages.manifest import ManifestError

WORD = "\nAnswer the question using a single word or phrase."


def sees(ask: Ask) -> str:
    """Answer as one does who sees the colour of the first picture."""
    colour = colour_of(ask.shown[0].image) if ask.shown else "nothing"
    if "Is it" in ask.question:
        return "Yes" if colour in ask.question else "No"
    for line in ask.question.splitlines():
        if line[1:2] == "." and line[3:] == colour:
            return line[0]
    return colour


def measured(
    asked: list[Question], colours: list[str], says: Any = sees, **settings: Any
) -> tuple[Outcome, Scripted, Talker]:
    session = Scripted(says)
    talker = Talker(session)
    examples = ListedExamples([[plain(colour)] for colour in colours], asked=asked)
    return run(talker, examples, Settings(**settings), "set"), session, talker  # type: ignore[arg-type]


def test_questions_are_put_as_in_the_paper_and_stand_beside_chance_and_a_blind_twin() -> None:
    colours = ["red", "red", "green", "blue", "red"]
    asked = [Question("Which colour?", (colour,) * 10) for colour in colours]
    found, session, talker = measured(asked, colours, batch_size=2)
    (row,) = found.measures
    assert (row.split, row.language, row.name, row.value, row.n) == ("set", "en", "vqa_accuracy", 1.0, 5)
    assert row.chance == pytest.approx(0.6)
    # Blind: red sees green, red green, green blue, blue red, and the last red the first other colour, green.
    assert row.blind == 0.0
    assert {each.question for each in session.asked} == {"Which colour?" + WORD} and len(session.asked) == 10
    assert session.given["max_new_tokens"] == 10 and talker.told[0] == (0, 10, "questions")
    assert talker.told[-1] == (10, 10, "questions")
    # Which examples show the same picture stands beside the scores.
    assert found.scores == {"vqa_accuracy": [1.0] * 5, GROUP: [0.0, 0.0, 1.0, 2.0, 0.0]}
    assert list(found.keys) == [f"000{n}" for n in range(5)]
    assert found.facts["prompt"] == "Which colour?" + WORD and not found.notes


def test_a_wrong_answer_is_shown_before_right_ones() -> None:
    colours = ["red", "green", "blue"]
    asked = [Question("Which colour?", ("red",)), Question("Which colour?", ("white",)), Question("?", ("blue",))]
    found, _, _ = measured(asked, colours, kind="exact", blind=False)
    assert found.measures[0].value == pytest.approx(2 / 3) and found.measures[0].blind is None
    assert [each.right for each in found.examples] == [False, True, True]
    assert ("right", "white") in found.examples[0].lines and ("answer", "green") in found.examples[0].lines
    assert any("nobody asked for it" in note for note in found.notes)


def test_pictures_that_are_all_alike_have_no_blind_twin() -> None:
    found, session, _ = measured([Question("?", ("red",))] * 2, ["red", "red"], kind="exact")
    assert found.measures[0].blind is None and len(session.asked) == 2
    assert any("no blind twin" in note for note in found.notes)
    assert strangers(["a", "a", "b", "b", "a"]) == [2, 2, 4, 4, 2] and strangers(["a"]) is None


def test_in_a_circle_every_rotation_has_to_be_right() -> None:
    question = Question("Which colour?", ("C",), ("green", "blue", "red"))
    assert rotated(question, 1).options == ("blue", "red", "green") and rotated(question, 1).answers == ("B",)
    turns = [rotated(question, turn) for turn in range(3)]
    assert all(turn.options["ABC".index(turn.answers[0])] == "red" for turn in turns)
    found, session, _ = measured([question] * 2, ["red", "red"], kind="choice", circular=True)
    assert found.measures[0].value == 1 and found.measures[0].chance == 0 and len(session.asked) == 6
    assert session.asked[1].question.startswith("Which colour?\nA. blue\nB. red\nC. green\nAnswer with the option's")
    found, _, _ = measured([question] * 2, ["red", "red"], lambda ask: "C", kind="choice", circular=True)
    assert found.measures[0].value == 0
    _, session, _ = measured([question], ["red"], kind="choice", language="zh")
    assert session.asked[0].question.endswith("C. red\n请直接回答选项字母。")
    found, _, _ = measured([question] * 2, ["red", "red"], lambda ask: "C", kind="choice")
    assert found.measures[0].value == 1 and found.measures[0].chance == 1


def test_pope_and_mme_count_what_their_kinds_count() -> None:
    colours = ["red", "red", "green", "green"]
    asked = [Question(f"Is it {colour}?", (answer,), category="color")
             for colour, answer in (("red", "Yes"), ("blue", "No"), ("red", "No"), ("green", "Yes"))]  # fmt: skip
    found, _, _ = measured(asked, colours, kind="mme")
    rows = {row.name: row for row in found.measures}
    assert rows["mme_score"].value == 200 and rows["mme_score"].unit == "points" and rows["mme_score"].n == 2
    assert rows["mme_score"].chance == 50 and rows["accuracy_plus_color"].blind == 0
    found, _, _ = measured(asked, colours, lambda ask: "Yes", kind="pope")
    rows = {row.name: row for row in found.measures}
    assert rows["f1"].value == pytest.approx(2 / 3) == rows["f1"].chance and rows["yes_share"].value == 1
    assert rows["yes_share"].chance is None
    assert rows["accuracy"].value == 0.5


def test_what_does_not_fit_counts_as_wrong_and_is_told() -> None:
    asked = [Question("Which colour?", ("red",)), Question("too long?", ("red",)), Question("Which?", ("red",))]
    found, _, _ = measured(asked, ["red"] * 3, kind="exact", blind=False)
    assert found.measures[0].value == pytest.approx(2 / 3) and found.facts["unasked"] == 1
    assert "1 of 3 questions could not be put" in found.notes[0] and "'too long?'" in found.notes[0]


@pytest.mark.parametrize("truth", ["yes", "no"])
def test_a_question_of_popes_that_does_not_fit_is_wrong_whatever_is_right(truth: str) -> None:
    asked = [Question("Is it red?", ("yes",)), Question("Is it red?", ("no",)), Question("too long?", (truth,))]
    found, _, _ = measured(asked, ["red", "blue", "red"], kind="pope", blind=False)
    values = {row.name: row.value for row in found.measures}
    assert values["accuracy"] == pytest.approx(2 / 3) and values["f1"] == pytest.approx(2 / 3)
    assert found.scores["accuracy"] == pytest.approx([1, 1, 0])


def test_options_without_letters_are_refused() -> None:
    asked = [Question("Which?", ("A",), options=tuple(f"thing {number}" for number in range(30)))]
    with pytest.raises(ManifestError, match=r"set: 'Which\?' has 30 options, and there are 26 letters to name them"):
        measured(asked, ["red"], kind="choice")


def test_context_is_told_where_asked_for() -> None:
    asked = [Question("What does it say?", ("stop",), context="stop, all, way")] * 2
    _, session, _ = measured(asked, ["red", "blue"], context=True, blind=False)
    assert session.asked[0].question == "What does it say?\nReference OCR tokens: stop, all, way" + WORD
    _, session, _ = measured(asked, ["red", "blue"], prompt="Say: {question}", blind=False, max_new_tokens=3)
    assert session.asked[0].question == "Say: What does it say?" and session.given["max_new_tokens"] == 3


class Pairs(ListedExamples):
    """Examples of two pictures each, no frames of a video."""

    def pictures(self, number: int, frames: int = 1) -> list[Image.Image]:
        return list(self.shown[number])


def test_several_pictures_are_numbered() -> None:
    session = Scripted(sees)
    examples = Pairs([[plain("red"), plain("blue")]], asked=[Question("Which?", ("red",))])
    run(Talker(session), examples, Settings(blind=False), "set")  # type: ignore[arg-type]
    assert session.asked[0].question.startswith("Image-1: <image>\nImage-2: <image>\nWhich?")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "choice"}, "set: 1 of 2 questions have no options, the first is 'Which.'; take another kind"),
        ({"context": True}, "set: no question has a context; leave `context` out"),
    ],
)
def test_data_that_lacks_what_is_asked_for_is_refused(settings: dict[str, Any], message: str) -> None:
    asked = [Question("Which?", ("A",)), Question("Which?", ("A",), ("red", "blue"))]
    with pytest.raises(ManifestError, match=message):
        measured(asked, ["red", "blue"], **settings)


def test_a_benchmark_without_questions_is_refused() -> None:
    with pytest.raises(ManifestError, match="set asks nothing; look at its data"):
        measured([], [])


def test_a_prompt_needs_a_place_for_the_question() -> None:
    with pytest.raises(ValueError, match=r"the prompt has no place for \{question\}"):
        Settings(prompt="Answer!")


def test_a_real_model_is_asked_and_text_without_pictures_too() -> None:
    chat = chat_session()
    examples = ListedExamples(
        [[plain("red")], [plain("blue")], []],
        asked=[Question("Which colour?", ("red",)), Question("Which colour?", ("blue",)), Question("Why?", ("so",))],
    )
    found = run(Talker(chat), examples, Settings(kind="anls", max_new_tokens=4), "set")  # type: ignore[arg-type]
    assert found.measures[0].n == 3 and len(found.examples) == 2 and found.facts["unasked"] == 0
    again = run(Talker(chat), examples, Settings(kind="anls", max_new_tokens=4), "set")  # type: ignore[arg-type]
    assert again.measures == found.measures
    long = ListedExamples([[plain("red")]], asked=[Question("Why? " * 300, ("so",))])
    found = run(Talker(chat), long, Settings(kind="exact", blind=False), "set")  # type: ignore[arg-type]
    assert found.facts["unasked"] == 1 and found.measures[0].value == 0
