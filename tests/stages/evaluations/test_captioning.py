"""Captions are written by whichever model can, and stand beside those of another picture."""

import pytest
import torch
from chat_models import chat_session
from talking import Scripted, Talker, colour_of
from worlds import FakeSubject, ListedExamples, coloured, plain, tiny_judge

from stages.chat import Ask, Shown
from stages.evaluations import captioning
from stages.evaluations.captioning import PROMPT, Settings, run
from stages.manifest import ManifestError

SAID = {"red": "a red picture on the wall", "green": "the green grass of home", "blue": "blue sky and a kite"}


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioning, "meteor_program", lambda language: None)


def described() -> ListedExamples:
    colours = ["red", "green", "blue", "red"]
    return ListedExamples([[plain(each)] for each in colours], said=[[SAID[each], "a photo"] for each in colours])


def test_a_chat_model_is_asked_for_one_sentence_of_at_least_eight_tokens() -> None:
    session = Scripted(lambda ask: SAID[colour_of(ask.shown[0].image)])
    found = run(Talker(session), described(), Settings(), "flickr")  # type: ignore[arg-type]
    names = [row.name for row in found.measures]
    assert names == ["cider", "bleu_4", "bleu_3", "bleu_2", "bleu_1", "rouge_l"]
    rows = {row.name: row for row in found.measures}
    assert rows["bleu_4"].value == pytest.approx(1) and rows["rouge_l"].value == pytest.approx(1)
    assert rows["cider"].blind is not None and rows["cider"].blind < 0.3 * rows["cider"].value
    assert {each.question for each in session.asked} == {PROMPT}
    assert session.given["max_new_tokens"] == 30 and session.given["min_new_tokens"] == 8
    assert set(found.scores) == {"cider", "rouge_l"} and len(found.keys) == 4
    assert [each.group for each in found.examples[::4]] == ["lowest CIDEr", "median CIDEr", "highest CIDEr"]
    assert any("METEOR is left out" in note for note in found.notes)


def test_a_real_chat_model_says_at_least_so_many_tokens() -> None:
    chat = chat_session()
    ask = [Ask(PROMPT, [Shown(plain("red"))])]
    begins = chat.model.generate(*chat._prompt([chat._example(ask[0])]), max_new_tokens=1)[0].tolist()
    chat._stop = [*chat._stop, *begins]  # so that it would end at once
    assert chat.ask_many(ask) == [""]
    assert len(chat.tokenizer.encode(chat.ask_many(ask, min_new_tokens=12, max_new_tokens=14)[0]).ids) >= 12
    found = run(Talker(chat), described(), Settings(min_new_tokens=12, max_new_tokens=14), "set")  # type: ignore[arg-type]
    assert found.facts["writer"] == "chat" and found.measures[0].n == 4


def test_internvl_g_writes_with_beams_and_as_the_judge_writes_one_by_one() -> None:
    judge = tiny_judge(generative=True, seed=3)
    examples = coloured(2)
    subject = FakeSubject(judge)
    found = run(subject, examples, Settings(batch_size=3, beams=2, max_new_tokens=10), "set")
    assert found.facts == {
        "writer": "qllama",
        "prompt": "English caption:",
        "max_new_tokens": 10,
        "min_new_tokens": 8,
        "beams": 2,
    }
    assert found.measures[0].name == "cider" and found.measures[0].n == 8
    assert subject.said[0] == (0, 8, "pictures")
    shown = {each.lines[0][1] for each in found.examples}
    prompt = torch.tensor([judge.texts.prompt("en")])
    picture = examples.pictures(0)
    tokens = judge.model.caption(judge.see(picture), prompt, 10, judge.texts.eos_token_id, min_new_tokens=8, beams=2)
    row = tokens[0].tolist()
    end = row.index(judge.texts.eos_token_id) if judge.texts.eos_token_id in row else len(row)
    assert end >= 8 and str(judge.texts.tokenizer.decode(row[:end])).strip() in shown


@pytest.mark.parametrize(
    ("writer", "message"), [("chat", "is no chat model"), (None, "writes nothing"), ("qllama", "writes nothing")]
)
def test_who_cannot_write_is_refused(writer: str | None, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        run(FakeSubject(tiny_judge()), coloured(1), Settings.model_validate({"writer": writer}), "set")


def test_pictures_without_captions_are_refused() -> None:
    bare = ListedExamples([[plain("red")], [plain("blue")]], said=[["red"], []])
    with pytest.raises(ManifestError, match="set: 1 pictures have no caption, the first is 0001"):
        run(Talker(Scripted(lambda ask: "red")), bare, Settings(), "set")  # type: ignore[arg-type]
    one = ListedExamples([[plain("red")]], said=[["red"]])
    with pytest.raises(ManifestError, match="set has 1 pictures; CIDEr compares words between at least two"):
        run(Talker(Scripted(lambda ask: "red")), one, Settings(), "set")  # type: ignore[arg-type]


def test_a_picture_that_does_not_fit_has_an_empty_caption_and_a_note() -> None:
    session = Scripted(lambda ask: "red")
    found = run(Talker(session), described(), Settings(prompt="too long"), "set")  # type: ignore[arg-type]
    assert found.measures[0].value == 0
    assert found.notes[0].startswith("4 pictures do not fit into the model's context")


def test_captions_need_room_to_end() -> None:
    with pytest.raises(ValueError, match="at least 8 and at most 8 tokens cannot end; raise max_new_tokens"):
        Settings(max_new_tokens=8)


def test_the_blind_twin_is_the_next_picture_that_shows_something_else() -> None:
    colours = ["red", "red", "green"]
    examples = ListedExamples([[plain(each)] for each in colours], said=[[SAID[each]] for each in colours])
    session = Scripted(lambda ask: SAID[colour_of(ask.shown[0].image)])
    found = run(Talker(session), examples, Settings(), "set")  # type: ignore[arg-type]
    rows = {row.name: row for row in found.measures}
    # The first red one is not given the second one's caption, which is its own.
    assert rows["bleu_4"].value == pytest.approx(1) and rows["bleu_4"].blind == pytest.approx(0, abs=0.3)
    same = ListedExamples([[plain("red")]] * 2, said=[[SAID["red"]]] * 2)
    alike = run(Talker(session), same, Settings(), "set")  # type: ignore[arg-type]
    assert alike.measures[0].blind is None and "there is no blind twin" in alike.notes[0]
