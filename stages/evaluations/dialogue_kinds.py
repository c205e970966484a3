"""The families of question benchmarks: how one asks, and when an answer is right."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from stages.evaluations import answers as rules
from stages.evaluations.base import Question

KindName = Literal["vqa", "exact", "relaxed", "anls", "contains", "choice", "box", "pope", "mme"]
WORD = "{question}\nAnswer the question using a single word or phrase."
LETTER = "{question}\nAnswer with the option's letter from the given choices directly."
LETTER_ZH = "{question}\n请直接回答选项字母。"
"""What the released code asks of MMBench-CN."""
REGION = "Please provide the bounding box coordinate of the region this sentence describes: <ref>{question}</ref>"


class Kind(NamedTuple):
    """One family. Prompts and most tokens are the paper's (arXiv:2312.14238, section 4.4 and its released code)."""

    metric: str
    prompt: str
    max_new_tokens: int
    right: Callable[[str, Question], float]
    """How right an answer is, in [0, 1]."""


def _contains(answer: str, question: Question) -> float:
    # OCRBench compares formulas without spaces, and calls their category "Handwritten Mathematical Expression ...".
    formula = "mathematical expression" in question.category.lower()
    return rules.contains(answer, question.answers, spaces=not formula)


def _polar(says: Callable[[str], str]) -> Callable[[str, Question], float]:
    return lambda answer, question: float(says(answer) == rules.yes_or_no(question.answers[0]))


KINDS: dict[KindName, Kind] = {
    "vqa": Kind("vqa_accuracy", WORD, 10, lambda said, asked: rules.vqa_accuracy(said, asked.answers)),
    "exact": Kind("exact_match", WORD, 10, lambda said, asked: rules.exact_match(said, asked.answers)),
    "relaxed": Kind("relaxed_accuracy", WORD, 100, lambda said, asked: rules.relaxed_accuracy(said, asked.answers)),
    "anls": Kind("anls", WORD, 100, lambda said, asked: rules.anls(said, asked.answers)),
    "contains": Kind("accuracy", WORD, 100, _contains),
    "choice": Kind(
        "accuracy", LETTER, 10, lambda said, asked: float(rules.chosen(said, asked.options) == asked.answers[0])
    ),
    "box": Kind("accuracy", REGION, 100, lambda said, asked: rules.box_hit(said, asked.answers)),
    "pope": Kind("f1", WORD, 10, _polar(lambda said: "no" if rules.denies(said) else "yes")),
    "mme": Kind("mme_score", WORD, 10, _polar(rules.yes_or_no)),
}


def prompt_of(kind: KindName, language: str) -> str:
    """Return how a family is asked where nobody says otherwise."""
    return LETTER_ZH if (kind, language) == ("choice", "zh") else KINDS[kind].prompt
