"""Many questions about the pictures of a benchmark, asked batch by batch so that few pictures are in memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stages.chat import Ask, ChatSession, Shown
from stages.chat_template import IMAGE, TemplateError
from stages.evaluations.base import Examples, Question, Subject
from stages.evaluations.writing import Texts, written
from stages.pairs import number_of


class Put(NamedTuple):
    """A question as it is put to the model."""

    text: str
    question: Question
    example: int
    """Whose answer is right."""
    shown: int
    """Whose pictures are shown."""
    first: bool = True
    """The first of several ways in which the same is asked."""


def ask(
    subject: Subject,
    examples: Examples,
    puts: Sequence[Put],
    max_new_tokens: int,
    batch_size: int,
    told: Callable[[int], None],
    min_new_tokens: int = 0,
) -> Texts:
    """Return the answers in order; None where a question cannot be put. What stands is not asked again.

    Args:
        subject: A chat model.
        examples: Whose pictures are shown.
        puts: The questions.
        max_new_tokens: Most tokens of an answer.
        batch_size: Questions in the model at once.
        told: Hears how many are answered.
        min_new_tokens: Fewest tokens of an answer.
    """
    session = subject.session

    def write(numbers: range) -> Texts:
        asks = [asked(puts[number].text, examples, puts[number].shown) for number in numbers]
        return _answered(session, asks, max_new_tokens, min_new_tokens)

    decided = [[put.text, put.shown] for put in puts]
    settings = {"max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens}
    return written(subject, examples, decided, dict(settings), batch_size, write, told)


def asked(text: str, examples: Examples, shown: int) -> Ask:
    """Return a question about the pictures of an example; several are numbered as in training."""
    pictures = examples.pictures(shown)
    if len(pictures) > 1:
        marks = "".join(f"Image-{number}: {IMAGE}\n" for number in range(1, len(pictures) + 1))
        text = marks + text
    return Ask(text, [Shown(picture) for picture in pictures])


def _answered(session: ChatSession, asks: Sequence[Ask], most: int, fewest: int) -> Texts:
    """Return answers; where a batch holds a question that cannot be put, its halves are asked by themselves."""
    try:
        return list(session.ask_many(asks, batch_size=len(asks), max_new_tokens=most, min_new_tokens=fewest))
    except TemplateError:
        if len(asks) == 1:
            return [None]
    middle = len(asks) // 2
    return [*_answered(session, asks[:middle], most, fewest), *_answered(session, asks[middle:], most, fewest)]


def picture_names(examples: Examples) -> list[str]:
    """Return a name of what each example shows, equal where the pictures are; empty where there are none."""
    found = []
    for number in range(len(examples)):
        pixels = [picture.tobytes() for picture in examples.pictures(number)]
        found.append("-".join(f"{number_of(each):014x}" for each in pixels))
    return found


def strangers(names: Sequence[str]) -> list[int] | None:
    """Return for each example the next one that shows something else; None where all show the same."""
    if len(set(names)) < 2:
        return None
    count, found = len(names), [0] * len(names)
    other = next(number for number in range(count) if names[number] != names[count - 1])
    # Backwards: the next stranger is the next example, or the next example's own stranger where both are alike.
    for number in reversed(range(count)):
        following = number + 1
        if following < count:
            other = following if names[following] != names[number] else found[following]
        found[number] = other
    return found
