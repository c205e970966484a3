"""Questions to a chat model: VQA, charts, documents, POPE, MME, multiple choice (arXiv:2312.14238, section 4.4)."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.evaluation_metrics import Floats, Measure
from stages.evaluation_report import Example
from stages.evaluations.answers import LETTERS
from stages.evaluations.asking import Put, ask, picture_names, strangers
from stages.evaluations.base import GROUP, Examples, Outcome, Question, Subject, numbered
from stages.evaluations.composed import Number
from stages.evaluations.dialogue_kinds import KINDS, KindName, prompt_of
from stages.evaluations.dialogue_numbers import numbers
from stages.manifest import ManifestError

BLIND_UP_TO = 500
"""Examples up to which every question is also asked about another picture, unless somebody says otherwise."""
CONSTANTS = 5
"""So many of the commonest answers are tried as the only one that is ever given."""
SHOWN = 16


class Settings(BaseModel):
    """How questions are put and answers judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: KindName = Field(
        default="vqa",
        description="Family: vqa (VQAv2, OKVQA, VizWiz, TextVQA), exact (GQA), relaxed (ChartQA), anls (DocVQA, "
        "InfoVQA), contains (OCRBench), choice (ScienceQA, MMBench, AI2D), box (RefCOCO), pope, mme.",
    )
    prompt: str = Field(default="", description="With {question}; the family's own when left out.")
    max_new_tokens: int = Field(default=0, ge=0, description="Most tokens of an answer; 0 is the family's own.")
    batch_size: int = Field(default=16, ge=1, description="Questions in the model at once.")
    context: bool = Field(default=False, description="Tell what is known besides the picture (OCR tokens).")
    circular: bool = Field(
        default=False, description="Of a choice: ask with the options in each rotation, all must be right (MMBench)."
    )
    blind: bool | None = Field(
        default=None, description=f"Ask about another picture too; on up to {BLIND_UP_TO} examples when left out."
    )
    language: str = "en"

    @field_validator("prompt")
    @classmethod
    def _asks(cls, prompt: str) -> str:
        if prompt and "{question}" not in prompt:
            raise ValueError("the prompt has no place for {question}; say where it goes")
        return prompt


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Ask every question and judge the answers.

    Chance is the best that one constant answer would get, of the commonest right ones; blind is the same question
    about the picture of another example, judged by the own answer.

    Raises:
        ManifestError: The subject is no chat model, or the data lacks options or contexts that are asked for.
    """
    assert isinstance(settings, Settings)
    count = len(examples)
    asked = [examples.question(number) for number in range(count)]
    puts = _puts(asked, settings, benchmark)
    room = settings.max_new_tokens or KINDS[settings.kind].max_new_tokens
    with_blind = count <= BLIND_UP_TO if settings.blind is None else settings.blind
    names = picture_names(examples)
    others = strangers(names) if with_blind else None
    total = len(puts) * (1 if others is None else 2)

    def answers(shown: Sequence[Put], before: int) -> list[str | None]:
        def told(done: int) -> None:
            subject.progress(before + done, total, "questions")

        return ask(subject, examples, shown, room, settings.batch_size, told)

    keys = [examples.key(number) for number in range(count)]
    # A question without a picture stands alone.
    groups = [name or key for name, key in zip(names, keys, strict=True)]
    exam = _Exam(settings.kind, asked, puts, groups)
    said = answers(puts, 0)
    blind = None
    if others is not None:
        elsewhere = answers([put._replace(shown=others[put.example]) for put in puts], len(puts))
        blind = [number.value for number in exam.numbers(elsewhere)]
    found = exam.numbers(said)
    return Outcome(
        measures=_measures(found, exam.chance(), blind, benchmark, settings.language),
        scores={number.name: number.scores.tolist() for number in found if number.scores is not None}
        | {GROUP: numbered(groups)},
        keys=keys,
        examples=_examples(examples, asked, exam.first(said), exam.hits(said)),
        written=[
            {"key": keys[put.example], "category": put.question.category, "prompt": put.text, "answer": answer}
            | {"right": list(put.question.answers)}
            for put, answer in zip(puts, said, strict=True)
        ],
        notes=_notes(puts, said, others is None and with_blind, with_blind),
        facts={
            "kind": settings.kind,
            "prompt": puts[0].text,
            "max_new_tokens": room,
            "circular": settings.circular,
            "unasked": sum(answer is None for answer in said),
        },
    )


class _Exam(NamedTuple):
    """What is asked, and what answers to it are worth."""

    kind: KindName
    asked: Sequence[Question]
    puts: Sequence[Put]
    groups: Sequence[str]
    """A name of each example's picture."""

    def hits(self, said: Sequence[str | None]) -> Floats:
        """Return how right each example is: as right as the worst of its rotations."""
        hits = np.ones(len(self.asked))
        for put, answer in zip(self.puts, said, strict=True):
            right = 0.0 if answer is None else KINDS[self.kind].right(answer, put.question)
            hits[put.example] = min(hits[put.example], right)
        return hits

    def first(self, said: Sequence[str | None]) -> list[str | None]:
        """Return each example's answer, of several the first."""
        return [answer for put, answer in zip(self.puts, said, strict=True) if put.first]

    def numbers(self, said: Sequence[str | None]) -> list[Number]:
        """Return the benchmark's numbers."""
        return numbers(self.kind, self.asked, self.first(said), self.hits(said), self.groups)

    def chance(self) -> list[float]:
        """Return for each number the best that one constant answer would get, of the commonest right ones."""
        every = Counter(answer for question in self.asked for answer in question.answers)
        constants = [answer for answer, _ in every.most_common(CONSTANTS)]
        rivals = [self.numbers([constant] * len(self.puts)) for constant in constants]
        return [max(number.value for number in same) for same in zip(*rivals, strict=True)]


def _puts(asked: Sequence[Question], settings: Settings, benchmark: str) -> list[Put]:
    """Return how the questions are put, each once or in all rotations of its options.

    Raises:
        ManifestError: Questions, options or contexts are missing.
    """
    if not asked:
        raise ManifestError(f"{benchmark} asks nothing; look at its data")
    prompt = settings.prompt or prompt_of(settings.kind, settings.language)
    lacking = [number for number, question in enumerate(asked) if not question.options]
    if lacking and (settings.kind == "choice" or settings.circular):
        raise ManifestError(
            f"{benchmark}: {len(lacking)} of {len(asked)} questions have no options, the first is "
            f"{asked[lacking[0]].text!r}; take another kind, or data with options"
        )
    if many := [question for question in asked if len(question.options) > len(LETTERS)]:
        raise ManifestError(
            f"{benchmark}: {many[0].text!r} has {len(many[0].options)} options, and there are {len(LETTERS)} letters "
            "to name them; leave the question out"
        )
    if settings.context and not any(question.context for question in asked):
        raise ManifestError(
            f"{benchmark}: no question has a context; leave `context` out, or bring data with OCR tokens"
        )
    found = []
    for number, question in enumerate(asked):
        turns = range(len(question.options) if settings.circular else 1)
        for turn in turns:
            turned = rotated(question, turn)
            text = prompt.replace("{question}", _told(turned, settings.context))
            found.append(Put(text, turned, number, number, first=turn == 0))
    return found


def rotated(question: Question, turn: int) -> Question:
    """Return a question with its options moved on by `turn` places, and the letter of the right one moved too."""
    if not turn:
        return question
    options = (*question.options[turn:], *question.options[:turn])
    letters = tuple(LETTERS[(LETTERS.index(each) - turn) % len(options)] for each in question.answers)
    return question._replace(options=options, answers=letters)


def _told(question: Question, context: bool) -> str:
    lines = [question.text]
    if context and question.context:
        lines.append(f"Reference OCR tokens: {question.context}")
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    return "\n".join(lines)


def _measures(
    found: Sequence[Number], chance: Sequence[float], blind: Sequence[float] | None, split: str, language: str
) -> list[Measure]:
    others: Sequence[float | None] = [None] * len(found) if blind is None else blind
    return [
        # How often a model says yes is neither good nor bad, so there is no best guess.
        number.measure(split, language, chance=None if number.name.startswith("yes_share") else guess, blind=other)
        for number, guess, other in zip(found, chance, others, strict=True)
    ]


def _examples(
    examples: Examples, asked: Sequence[Question], said: Sequence[str | None], hits: Floats
) -> list[Example]:
    """Return answers to look at: wrong ones first, the nearest before others, then some that are right."""
    order = sorted(range(len(asked)), key=lambda number: (hits[number] >= 1, -hits[number], number))
    wrong = [number for number in order if hits[number] < 1]
    right = order[len(wrong) :]
    chosen = [*wrong[: SHOWN - min(len(right), SHOWN // 4)], *right[: SHOWN // 4]]
    found = []
    for number in chosen:
        question = asked[number]
        lines = [
            ("question", _told(question, context=False)),
            ("answer", said[number] or ""),
            ("right", " | ".join(dict.fromkeys(question.answers))),
        ]
        if pictures := examples.pictures(number):
            found.append(Example("answers", pictures[0], lines, bool(hits[number] >= 1)))
    return found


def _notes(puts: Sequence[Put], said: Sequence[str | None], alike: bool, with_blind: bool) -> list[str]:
    """Return what a reader has to know."""
    found = []
    if unasked := [put for put, answer in zip(puts, said, strict=True) if answer is None]:
        found.append(
            f"{len(unasked)} of {len(puts)} questions could not be put (too long for the model's context, or with "
            f"tokens that steer it) and count as wrong; the first is {unasked[0].question.text[:80]!r}."
        )
    if alike:
        found.append("All examples show the same picture, or none: there is no blind twin.")
    elif not with_blind:
        found.append(f"Not asked blindly: there are more than {BLIND_UP_TO} examples, and nobody asked for it.")
    return found
