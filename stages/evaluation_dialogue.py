"""Questions to a chat model about pictures, beside the commonest answer and beside what it says blindly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.chat import Ask, ChatSession, Shown
from stages.chat_data import Conversations
from stages.chat_measuring import readings
from stages.evaluation_captions import SPARE_TOKENS, score_slots
from stages.evaluation_metrics import Measure, majority, measure
from stages.evaluation_world import World
from stages.held_out import strangers
from stages.prompts import DESCRIBE
from stages.sources.questions import Question, questions


@dataclass(frozen=True)
class Answered:
    """One question of one kind, put to every scene."""

    language: str
    kind: str
    questions: list[Question]
    answers: list[str]


class Interview:
    """A chat model and one split's pictures; the same question about the same picture is asked once."""

    def __init__(self, session: ChatSession, pictures: Sequence[Image.Image], batch_size: int) -> None:
        """Ask nothing yet."""
        self.session, self.pictures, self.batch_size = session, pictures, batch_size
        self._known: dict[tuple[int, str, int], str] = {}

    def room(self, answers: Sequence[str]) -> int:
        """Return how many tokens an answer may have, from the right ones."""
        encode = self.session.tokenizer.encode
        return max(len(encode(answer, add_special_tokens=False).ids) for answer in set(answers)) + SPARE_TOKENS

    def ask(self, numbers: Sequence[int], asked: Sequence[str], max_new_tokens: int) -> list[str]:
        """Return the answers to questions about pictures, given by number."""
        wanted = [(number, question, max_new_tokens) for number, question in zip(numbers, asked, strict=True)]
        new = [key for key in dict.fromkeys(wanted) if key not in self._known]
        asks = [Ask(question, [Shown(self.pictures[number])]) for number, question, _ in new]
        found = self.session.ask_many(asks, batch_size=self.batch_size, max_new_tokens=max_new_tokens)
        self._known.update(zip(new, found, strict=True))
        return [self._known[key] for key in wanted]


def same(answer: str, right: str) -> bool:
    """Return whether an answer is the right one, but for case, space and a full stop."""
    return answer.strip().rstrip(".。").casefold() == right.casefold()


def questioned(interview: Interview, world: World, language: str) -> tuple[list[Measure], list[Answered]]:
    """Put every kind of question to every scene.

    Blind is the same question about the next scene's picture, judged by the own scene's answer;
    chance is always giving the answer that is commonest among these very scenes.
    """
    count = len(world.scenes)
    elsewhere = [(number + 1) % count for number in range(count)]
    found, answered = [], []
    for asked in zip(*(questions(scene, language) for scene in world.scenes), strict=True):
        texts, right = [each.question for each in asked], [each.answer for each in asked]
        room = interview.room(right)
        answers = interview.ask(range(count), texts, room)
        blind = interview.ask(elsewhere, texts, room)
        hits = [same(answer, wanted) for answer, wanted in zip(answers, right, strict=True)]
        guessed = [same(answer, wanted) for answer, wanted in zip(blind, right, strict=True)]
        kind = asked[0].kind
        found.append(measure(world.split, language, f"question_{kind}", hits, chance=majority(right), blind=guessed))
        answered.append(Answered(language, kind, list(asked), answers))
    return found, answered


def described(interview: Interview, world: World, language: str) -> tuple[list[Measure], list[str]]:
    """Ask for a description of every scene and score what it says."""
    room = interview.room(world.captions(language))
    written = interview.ask(range(len(world.scenes)), [DESCRIBE[language]] * len(world.scenes), room)
    return score_slots(world.split, language, written, world.scenes), written


def held_out(
    session: ChatSession, data: Conversations, numbers: Sequence[int], split: str, language: str
) -> list[Measure]:
    """Return how likely the right answers of conversations are, beside another picture than their own.

    Conversations that there is no other picture for are in no number that tells of blind answers.
    """
    loss, right = _read(session, data, numbers, numbers)
    shown = strangers(numbers, data.told_by)
    if not shown:
        return [
            measure(split, language, "answer_loss", loss, unit="nats"),
            measure(split, language, "answers_exact", right),
        ]
    blind_loss, blind_right = _read(session, data, list(shown), list(shown.values()))
    own_loss = [each for number, each in zip(numbers, loss, strict=True) if number in shown]
    return [
        measure(split, language, "answer_loss", loss, blind=blind_loss, unit="nats"),
        measure(split, language, "answers_exact", right, blind=blind_right),
        measure(split, language, "own_picture_helps_the_answer", np.less(own_loss, blind_loss), chance=0.5),
    ]


def _read(
    session: ChatSession, data: Conversations, numbers: Sequence[int], pictures: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """Return for each conversation its loss per learned token, and whether each of them would have been chosen."""
    pairs = zip(numbers, pictures, strict=True)
    examples = (
        data.example(number, None if number == picture else data.pictures(picture)) for number, picture in pairs
    )
    found = list(readings(session.model, examples))
    return [float(each.losses.mean()) for each in found], [bool(each.right.all()) for each in found]
