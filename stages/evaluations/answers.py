"""How right an answer is, by the rule of each family of benchmarks: pure functions of texts, values in [0, 1]."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from stages.evaluations.vqa_words import normalised

AGREEING = 3
"""An answer that so many other people gave is wholly right (arXiv:1505.00468)."""
TOLERANCE = 0.05
"""By what share a number may miss in ChartQA (arXiv:2203.10244, after arXiv:1909.00997)."""
ANLS_THRESHOLD = 0.5
"""Answers less similar than this count nothing (arXiv:1905.13648)."""
BOX_SCALE = 1000
"""Boxes are said in thousandths of width and height."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NEGATIVE = frozenset(["no", "No", "not"])
_BOX = re.compile(r"\[\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\]")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def composed(text: str) -> str:
    """Return a text with its accents written one way (Unicode's NFC): e and its accent are one sign, or two."""
    return unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """Return a text without case, outer space, a full stop at its end and repeated spaces."""
    return " ".join(composed(text).casefold().strip().rstrip(".。").split())


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Return how many people gave this answer, as a third each up to 1, averaged over leaving each of them out.

    Args:
        answer: What was said.
        truths: The answers of all people, ten in most sets. Of fewer than four nobody could ever be wholly right:
            there an answer is right if it is any of them.
    """
    said, counted = normalised(composed(answer)), Counter(map(normalised, map(composed, truths)))
    count, people = counted[said], len(truths)
    if people <= AGREEING:
        return float(count > 0)
    own = count * min(1.0, (count - 1) / AGREEING)
    others = (people - count) * min(1.0, count / AGREEING)
    return (own + others) / people


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """Return 1 where the answer is one of the right ones, but for case, space and a full stop at the end."""
    return float(plain(answer) in set(map(plain, truths)))


def _number(text: str) -> float | None:
    """Return the number that a text is, shares for percent; None where it is none."""
    text = text.strip()
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def relaxed_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Return 1 where a number is at most 5 % off, or a text is the same but for case (ChartQA)."""
    return float(any(_relaxed(answer, truth) for truth in truths))


def _relaxed(answer: str, truth: str) -> bool:
    said, right = _number(answer), _number(truth)
    if said is not None and right:
        return abs(said - right) / abs(right) <= TOLERANCE
    return composed(answer).strip().lower() == composed(truth).strip().lower()


def edits(one: str, other: str) -> int:
    """Return Levenshtein's distance: the fewest signs to insert, remove or replace."""
    row = list(range(len(other) + 1))
    for number, sign in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, wanted in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (sign != wanted))
    return row[-1]


def anls(answer: str, truths: Sequence[str]) -> float:
    """Return the normalised Levenshtein similarity to the nearest right answer, 0 below the threshold."""
    said = " ".join(composed(answer).lower().split())
    best = 0.0
    for truth in truths:
        right = " ".join(composed(truth).lower().split())
        longer = max(len(said), len(right))
        best = max(best, 1 - edits(said, right) / longer if longer else 1.0)
    return best if best >= ANLS_THRESHOLD else 0.0


def contains(answer: str, truths: Sequence[str], *, spaces: bool = True) -> float:
    """Return 1 where the answer holds a right one, but for case (OCRBench, arXiv:2305.07895).

    Args:
        answer: What was said.
        truths: Any of them will do.
        spaces: Whether they count; they do not in formulas.
    """

    def seen(text: str) -> str:
        words = composed(text).lower().split()
        return " ".join(words) if spaces else "".join(words)

    return float(any(seen(truth) in seen(answer) for truth in truths))


def denies(answer: str) -> bool:
    """Say whether an answer is a no, by POPE's own rule (arXiv:2305.10355): its first sentence holds no, No or not.

    Everything else is a yes.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return not _NEGATIVE.isdisjoint(words)


def yes_or_no(answer: str) -> str:
    """Return `yes`, `no` or `other`, by MME's own rule (arXiv:2306.13394): what the first four signs hold."""
    begun = answer.strip().lower()[:4]
    return "yes" if "yes" in begun else "no" if "no" in begun else "other"


def chosen(answer: str, options: Sequence[str]) -> str:
    """Return the letter of the option that an answer takes; nothing where it takes none, or several.

    In this order: a letter in front (`B`, `(b)`, `B. a dog`), a letter after *answer is* or *option*, the only
    capital of an option that stands alone, the only option whose words occur. An answer that begins with the article
    `A` and a small word is not taken for option A. Letters of full width are letters.

    Raises:
        ValueError: There are more options than letters.
    """
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} options, and {len(LETTERS)} letters to name them")
    letters = LETTERS[: len(options)]
    small = letters.lower()
    text = unicodedata.normalize("NFKC", answer).strip()
    front = re.match(rf"\(?([{letters}])(?:[).:,。、：，]|\s*$)", text) or re.match(
        rf"([{letters}])\s+(?![a-z])", text
    )
    if front:
        return str(front.group(1))
    # A small letter is one only where its sign says so: `a` is a word.
    if front := re.match(rf"\(?([{small}])(?:[).:。、](?=\s|$)|\s*$)", text):
        return str(front.group(1)).upper()
    if told := re.findall(rf"(?i:answer(?:\s+is)?:?|option)\s*\(?([{letters}])\b(?!\s+[a-z])", text):
        return str(told[-1])
    if told := re.findall(rf"(?i:answer(?:\s+is)?|option)[\s:(]+([{small}])(?=\s*(?:[).,:;]|$))", text):
        return str(told[-1]).upper()
    alone = set(re.findall(rf"(?<![\w'])(?!A\s+(?!(?:and|or)\b)[a-z])([{letters}])(?![\w'])", text, re.ASCII))
    if len(alone) == 1:
        return str(alone.pop())
    said = f" {plain(text)} "
    held = [letter for letter, option in zip(letters, options, strict=True) if f" {plain(option)} " in said]
    return held[0] if len(held) == 1 else ""


def box_of(text: str) -> Box | None:
    """Return the first box that a text says, as shares of width and height; None where it says none."""
    found = _BOX.search(text)
    if found is None:
        return None
    try:
        left, top, right, bottom = (float(each) / BOX_SCALE for each in found.groups())
    except ValueError:
        return None
    return left, top, right, bottom


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over the union of two boxes; 0 where one has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if min(areas) > 0 else 0.0


def box_hit(answer: str, truths: Sequence[str]) -> float:
    """Return 1 where the box that is said overlaps a right one by half or more (RefCOCO, arXiv:1608.00272)."""
    said = box_of(answer)
    boxes = [box for box in map(box_of, truths) if box is not None]
    return float(said is not None and any(overlap(said, box) >= 0.5 for box in boxes))
