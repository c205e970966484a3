"""One question of any of the public question sets, from the words that they use for its parts."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from stages.evaluations.base import Question
from stages.manifest import ManifestError

WORDS = {
    "image": (
        "image", "img", "imgname", "image_path", "image_local_name", "imageId", "image_id", "img_id", "image_name",
        "picture", "jpg", "png", "webp", "image_bytes",
    ),
    "question": ("question", "query", "text", "sent"),
    "answer": ("answers", "answer", "label", "gt_answer", "multiple_choice_answer"),
    "options": ("options", "choices"),
    "category": ("category", "question_type", "type", "subtask"),
    "hint": ("hint",),
    "context": ("context", "ocr_tokens"),
    "key": ("question_id", "questionId", "qid", "id", "index"),
}  # fmt: skip
"""What the parts of a question are called, the likeliest first."""


def word_of(part: str, known: Mapping[str, Any], called: Mapping[str, str]) -> str | None:
    """Return what a dataset calls a part, None where it has none; `called` wins, an empty word there means none."""
    if part in called:
        return called[part] or None
    return next((word for word in WORDS[part] if known.get(word) is not None), None)


def question_of(record: Mapping[str, Any], called: Mapping[str, str], category: str = "") -> Question:
    """Return what a record asks.

    Args:
        record: Of a list.
        called: Words of this dataset, as `Reading.columns`.
        category: Where the record has none of its own.

    Raises:
        ManifestError: It has no question, or no answer; or its right option is none of its options.
    """
    asked, told = word_of("question", record, called), word_of("answer", record, called)
    if asked is None or told is None:
        has = ", ".join(map(str, list(record)[:12]))
        raise ManifestError(
            f"a question has the fields {has}: no {'question' if asked is None else 'answer'} is known"
        )
    options = _options(record, called)
    word = word_of("category", record, called)
    kind = str(record[word]) if word else category
    hint = word_of("hint", record, called)
    text = str(record[asked]).strip()
    if hint and isinstance(record[hint], str) and record[hint].strip().lower() not in ("", "nan"):
        text = f"{record[hint].strip()}\n{text}"
    answers = _answers(record[told])
    known = word_of("context", record, called)
    context = record[known] if known else ""
    context = context if isinstance(context, str) else " ".join(map(str, context))
    return Question(text, (_letter(answers[0], options),) if options else answers, options, kind, context)


def _answers(told: Any) -> tuple[str, ...]:
    """Return all answers; those that several people gave stay as often as they were given."""
    several = told if isinstance(told, Sequence) and not isinstance(told, str) else [told]
    found = tuple(str(each["answer"] if isinstance(each, Mapping) else each).strip() for each in several)
    if not found:
        raise ManifestError("a question has an empty list of answers; take a split whose answers are published")
    return found


def _options(record: Mapping[str, Any], called: Mapping[str, str]) -> tuple[str, ...]:
    word = word_of("options", record, called)
    if word is not None:
        told = record[word]
        return tuple(str(each) for each in (told.values() if isinstance(told, Mapping) else told))
    lettered = []
    for letter in ascii_uppercase:
        said = record.get(letter)
        # pandas writes what is not there as an empty cell or as nan.
        if said is None or str(said).strip().lower() in ("", "nan"):
            break
        lettered.append(str(said).strip())
    return tuple(lettered) if len(lettered) > 1 else ()


def _letter(answer: str, options: Sequence[str]) -> str:
    """Return the letter of the right option, told as a letter, as a number from 0, or in words."""
    if len(answer) == 1 and answer.upper() in ascii_uppercase[: len(options)]:
        return answer.upper()
    if answer in options:
        return ascii_uppercase[options.index(answer)]
    if answer.isascii() and answer.isdigit() and int(answer) < len(options):
        return ascii_uppercase[int(answer)]
    raise ManifestError(f"the right answer {answer!r} is none of the options {list(options)}")
