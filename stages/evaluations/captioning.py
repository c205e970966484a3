"""Captions written by InternVL-G without any tuning, or by a chat model (arXiv:2312.14238, sections 4.3 and 4.4)."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.evaluation_captions import write
from stages.evaluation_metrics import Floats
from stages.evaluation_report import Example
from stages.evaluation_retrieval import Judge
from stages.evaluations.asking import Put, ask, picture_names, strangers
from stages.evaluations.base import Examples, Outcome, Question, Subject
from stages.evaluations.caption_scores import Scored, meteor_program
from stages.evaluations.writing import Texts, written
from stages.manifest import ManifestError
from stages.prompts import caption_prompt

PROMPT = "Provide a one-sentence caption for the provided image."
SHOWN = 4
Written = list[str]


class Settings(BaseModel):
    """How captions are written and compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: Literal["qllama", "chat"] | None = Field(
        default=None, description="InternVL-G's QLLaMA, or a chat model; whichever the checkpoint is when left out."
    )
    prompt: str = Field(default=PROMPT, description="What a chat model is asked; QLLaMA's prompt is its own.")
    max_new_tokens: int = Field(default=30, ge=1)
    min_new_tokens: int = Field(default=8, ge=0)
    beams: int = Field(default=5, ge=1, description="Of QLLaMA; a chat model writes greedily.")
    batch_size: int = Field(default=16, ge=1, description="Pictures in the model at once.")
    language: str = "en"

    @model_validator(mode="after")
    def _room(self) -> "Settings":
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError(
                f"captions of at least {self.min_new_tokens} and at most {self.max_new_tokens} tokens cannot end; "
                "raise max_new_tokens"
            )
        return self


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Write a caption of every picture and compare it with those of people.

    Blind is what was written of the next picture; there is no chance, because nothing is guessed.

    Raises:
        ManifestError: The subject writes no captions, an example has none, or there are fewer than two.
    """
    assert isinstance(settings, Settings)
    right = _captions(examples, benchmark)
    said, facts, notes = _writer(subject, settings)(examples)
    program = meteor_program(settings.language)
    found = Scored(said, right, settings.language).numbers(program)
    others = strangers(picture_names(examples))
    blind = others and Scored([said[other] for other in others], right, settings.language).numbers(program)
    scores = {number.name: number.scores for number in found if number.scores is not None}
    if others is None:
        notes.append("All examples show the same picture: there is no blind twin.")
    if program is None:
        notes.append("METEOR is left out: it needs Java, and knows English alone here.")
    notes.append(
        "Tokens are made without Java; of captions like COCO's one in ten thousand is cut otherwise than by COCO's "
        "own tokenizer. SPICE is not measured."
    )
    return Outcome(
        measures=[
            number.measure(benchmark, settings.language, blind=blind[place].value if blind else None)
            for place, number in enumerate(found)
        ],
        scores={name: values.tolist() for name, values in scores.items()},
        keys=[examples.key(number) for number in range(len(examples))],
        examples=_examples(examples, said, right, scores["cider"]),
        written=[
            {"key": examples.key(number), "caption": text, "right": list(right[number])}
            for number, text in enumerate(said)
        ],
        notes=notes,
        facts=facts,
    )


def _captions(examples: Examples, benchmark: str) -> list[Sequence[str]]:
    """Return the captions of people.

    Raises:
        ManifestError: An example has none, or there are too few.
    """
    found = [examples.captions(number) for number in range(len(examples))]
    if len(found) < 2:
        raise ManifestError(f"{benchmark} has {len(found)} pictures; CIDEr compares words between at least two")
    if lacking := [examples.key(number) for number, each in enumerate(found) if not each]:
        raise ManifestError(f"{benchmark}: {len(lacking)} pictures have no caption, the first is {lacking[0]}")
    return found


def _writer(
    subject: Subject, settings: Settings
) -> Callable[[Examples], tuple[Written, dict[str, object], list[str]]]:
    """Return what writes: captions of examples, facts, and notes.

    Raises:
        ManifestError: The subject is not what the settings say.
    """
    if settings.writer != "qllama":
        try:
            _ = subject.session
        except ManifestError:
            if settings.writer == "chat":
                raise
        else:
            return lambda examples: _asked(subject, examples, settings)
    judge = subject.judge
    if not judge.model.generative:
        raise ManifestError(
            f"{subject.name} is InternVL-C, which writes nothing; measure an InternVL-G or a chat model"
        )
    return lambda examples: _written(judge, subject, examples, settings)


def _written(
    judge: Judge, subject: Subject, examples: Examples, settings: Settings
) -> tuple[Written, dict[str, object], list[str]]:
    lengths = settings.model_dump(include={"max_new_tokens", "min_new_tokens", "beams"})
    facts = {"writer": "qllama", "prompt": caption_prompt(settings.language), **lengths}

    def captions(numbers: range) -> Texts:
        vision = judge.see([examples.pictures(number)[0] for number in numbers])
        return list(write(judge, vision, settings.language, **lengths))

    def told(done: int) -> None:
        subject.progress(done, len(examples), "pictures")

    texts = written(subject, examples, range(len(examples)), facts, settings.batch_size, captions, told)
    return [each or "" for each in texts], facts, []


def _asked(subject: Subject, examples: Examples, settings: Settings) -> tuple[Written, dict[str, object], list[str]]:
    puts = [Put(settings.prompt, Question(settings.prompt, ()), number, number) for number in range(len(examples))]
    said = ask(
        subject,
        examples,
        puts,
        settings.max_new_tokens,
        settings.batch_size,
        lambda done: subject.progress(done, len(puts), "pictures"),
        settings.min_new_tokens,
    )
    notes = []
    if unasked := sum(each is None for each in said):
        notes.append(f"{unasked} pictures do not fit into the model's context and have an empty caption.")
    facts = {"writer": "chat", **settings.model_dump(include={"prompt", "max_new_tokens", "min_new_tokens"})}
    return [each or "" for each in said], facts, notes


def _examples(examples: Examples, said: Written, right: Sequence[Sequence[str]], scores: Floats) -> list[Example]:
    """Return captions to look at: the worst, some from the middle and the best by CIDEr."""
    order = np.argsort(scores, kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    groups = {
        "lowest CIDEr": order[:SHOWN],
        "median CIDEr": order[middle : middle + SHOWN],
        "highest CIDEr": order[::-1][:SHOWN],
    }
    found = []
    for group, numbers in groups.items():
        for number in map(int, numbers):
            lines = [("written", said[number]), ("right", right[number][0]), ("CIDEr", f"{scores[number]:.2f}")]
            found.append(Example(group, examples.pictures(number)[0], lines))
    return found
