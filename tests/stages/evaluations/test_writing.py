"""What a model wrote is kept piece by piece: a row that was stopped asks only for the rest, in the same batches."""

import pytest
from talking import Scripted, Talker, colour_of
from worlds import ListedExamples, plain

from stages.chat import Ask
from stages.evaluations import captioning, dialogue, writing
from stages.evaluations.base import Question
from stages.evaluations.writing import Texts, written

COLOURS = ["red", "green", "blue", "white"]


class Stopped(Exception):
    """Somebody stopped the run."""


def world(count: int = 10) -> ListedExamples:
    """Return pictures of plain colours that are asked about, and described by people."""
    colours = [COLOURS[number % 4] for number in range(count)]
    return ListedExamples(
        [[plain(colour, noise=number)] for number, colour in enumerate(colours)],
        asked=[Question(f"Which colour has number {number}?", (colour,)) for number, colour in enumerate(colours)],
        said=[[f"a picture of {colour} number {number}"] for number, colour in enumerate(colours)],
    )


def sees(ask: Ask) -> str:
    return colour_of(ask.shown[0].image)


@pytest.mark.parametrize("protocol", [dialogue, captioning])
def test_a_row_that_was_stopped_goes_on_with_the_answers_that_stand(
    protocol: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "KEPT_TOGETHER", 4)
    settings = dialogue.Settings(batch_size=2) if protocol is dialogue else captioning.Settings(batch_size=2)
    run, asked = protocol.run, []  # type: ignore[attr-defined]

    def tires(ask: Ask) -> str:
        if len(asked) == 7:
            raise Stopped
        asked.append(ask.question)
        return sees(ask)

    examples, talker = world(), Talker(Scripted(tires))
    with pytest.raises(Stopped):
        run(talker, examples, settings, "set")
    assert [len(texts) for texts in talker.kept.values()] == [4], "the second piece was not whole"
    talker.session = Scripted(sees)
    found = run(talker, examples, settings, "set")
    total = 20 if protocol is dialogue else 10  # the blind twin asks everything again
    assert len(talker.session.asked) == total - 4
    undisturbed = Talker(Scripted(sees))
    again = run(undisturbed, examples, settings, "set")
    assert (found.measures, found.written) == (again.measures, again.written)
    assert len(undisturbed.session.asked) == total  # type: ignore[union-attr]
    # Another way to score the same answers asks nothing.
    if protocol is dialogue:
        talker.session.asked.clear()
        run(talker, examples, settings.model_copy(update={"kind": "exact"}), "set")
        assert not talker.session.asked


def test_all_that_was_written_is_told_with_what_is_right() -> None:
    found = dialogue.run(Talker(Scripted(sees)), world(3), dialogue.Settings(blind=False), "set")
    assert found.written[1] == {
        "key": "0001", "category": "", "answer": "green", "right": ["green"],
        "prompt": "Which colour has number 1?\nAnswer the question using a single word or phrase.",
    }  # fmt: skip
    found = captioning.run(Talker(Scripted(sees)), world(3), captioning.Settings(), "set")
    assert found.written[2] == {"key": "0002", "caption": "blue", "right": ["a picture of blue number 2"]}


def test_a_piece_is_known_by_all_that_decides_it() -> None:
    talker, examples, made = Talker(Scripted(sees)), world(4), []

    def write(numbers: range) -> Texts:
        made.append(numbers)
        return [str(number) for number in numbers]

    def ask(asked: list[object], settings: dict[str, object], batch: int, shown: ListedExamples = examples) -> Texts:
        return written(talker, shown, asked, settings, batch, write, lambda done: None)

    assert ask([1, 2, 3], {"beams": 1}, 2) == ["0", "1", "2"] and made == [range(2), range(2, 3)]
    for asked, settings, batch, shown in (
        ([1, 2, 4], {"beams": 1}, 2, examples),
        ([1, 2, 3], {"beams": 2}, 2, examples),
        ([1, 2, 3], {"beams": 1}, 3, examples),
        ([1, 2, 3], {"beams": 1}, 2, world(5)),
    ):
        before = len(made)
        ask(asked, settings, batch, shown)
        assert len(made) > before, (asked, settings, batch)
    before = len(made)
    assert ask([1, 2, 3], {"beams": 1}, 2) == ["0", "1", "2"] and len(made) == before
