"""Answers to VQA's questions as they are compared: without articles, number words and most punctuation.

The rules are those of the VQA challenge's evaluation (arXiv:1505.00468, and its public code), which VizWiz, OKVQA
and TextVQA took over. That code leaves an answer as it is where all people agree; here, as in the evaluation
servers of VizWiz and TextVQA, every answer is normalised.
"""

import re
from functools import lru_cache

REMEMBERED = 1 << 16
"""Answers; ten people say the same few, and every set of answers is judged several times."""
ARTICLES = frozenset(["a", "an", "the"])
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am mightn't mightn't've might've "
    "mustn't must've needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've "
    "why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're "
    "you've"
)
"""Those that the challenge knows: words that are another word without their apostrophe (we'll, she'll) are not among
them."""


def _misspelt(word: str) -> list[str]:
    """Return a contraction without one of its apostrophes, and without all of them."""
    places = [place for place, sign in enumerate(word) if sign == "'"]
    return [word[:place] + word[place + 1 :] for place in places] + [word.replace("'", "")]


CONTRACTIONS = {wrong: word for word in _CONTRACTED.split() for wrong in _misspelt(word)}


def _without_signs(text: str) -> str:
    """Return a text without signs: removed where one stands at a word's edge or a number has commas, else spaces."""
    commas = _NUMBER_WITH_COMMA.search(text) is not None
    found = text
    for sign in _SIGNS:
        at_edge = f"{sign} " in text or f" {sign}" in text
        found = found.replace(sign, "" if at_edge or commas else " ")
    return _FULL_STOP.sub("", found)


@lru_cache(maxsize=REMEMBERED)
def normalised(answer: str) -> str:
    """Return an answer in the form in which answers are compared."""
    words = _without_signs(" ".join(answer.split())).lower().split()
    counted = [NUMBERS.get(word, word) for word in words if word not in ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in counted)
