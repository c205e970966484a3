"""All words that any list names, looked up in one pass over a batch; each list then takes its own."""

from enum import IntFlag
from functools import cache

import numpy as np
import numpy.typing as npt

from filters.text.captions import Captions, Ints, remembered
from filters.text.function_words import DANGLING, FUNCTION_WORDS, THINGS
from filters.text.page_phrases import (
    CAMERA_WORDS,
    ERRORS,
    ERRORS_UNSPACED,
    FURNITURE,
    FURNITURE_UNSPACED,
    INNOCENT,
    STAND_INS,
    STAND_INS_ANYWHERE,
    STAND_INS_UNSPACED,
)
from filters.text.phrases import PhraseList, Phrases
from filters.text.strong_words import STRONG_WORDS
from filters.text.verbs import VERBS
from filters.text.words import Lookup, keys_of, words_of


class Role(IntFlag):
    """What a word may be; where a phrase may begin is looked at closer."""

    FUNCTION = 1
    DANGLING = 2
    STRONG = 4
    PAGE_BEGINS = 8
    CAMERA = 16
    THING = 32
    VERB = 64


PAGE = Phrases(
    {
        "furniture": PhraseList(FURNITURE, FURNITURE_UNSPACED),
        "errors": PhraseList(ERRORS, ERRORS_UNSPACED),
        "stand_ins": PhraseList(STAND_INS, STAND_INS_UNSPACED),
        "stand_ins_anywhere": PhraseList(STAND_INS_ANYWHERE),
    },
    PhraseList(INNOCENT),
)
"""What pages say about themselves."""


def _listed(table: dict[str, str]) -> set[str]:
    return {word for listed in table.values() for word in listed.split()}


@cache
def _members() -> dict[Role, set[str]]:
    return {
        Role.FUNCTION: _listed(FUNCTION_WORDS),
        Role.DANGLING: _listed(DANGLING),
        Role.STRONG: _listed(STRONG_WORDS),
        Role.PAGE_BEGINS: set(PAGE.first_words),
        Role.CAMERA: set(CAMERA_WORDS.split()),
        Role.THING: set(THINGS.split()),
        # One word is one sign: what a language lists as a small word is none of its verbs.
        Role.VERB: _listed(VERBS) - _listed(FUNCTION_WORDS),
    }


@cache
def listed_words() -> tuple[str, ...]:
    """Return every listed word, in the order of their numbers."""
    return tuple(sorted(set().union(*_members().values())))


@cache
def _table() -> tuple[Lookup, npt.NDArray[np.uint8]]:
    listed = listed_words()
    roles = np.zeros(len(listed), dtype=np.uint8)
    for role, members in _members().items():
        roles[[word in members for word in listed]] |= np.uint8(role)
    return Lookup({int(key): number for number, key in enumerate(keys_of(listed))}), roles


@remembered
def _found(captions: Captions) -> tuple[Ints, Ints, npt.NDArray[np.uint8]]:
    """Return positions of listed words among the words of the batch, their numbers and roles."""
    lookup, roles = _table()
    positions, numbers = lookup.find(words_of(captions).keys)
    return positions, numbers, roles[numbers]


@remembered
def _rare(captions: Captions) -> tuple[Ints, Ints, npt.NDArray[np.uint8]]:
    """Return the same without words that are function words alone, which most listed words are."""
    positions, numbers, roles = _found(captions)
    some = np.flatnonzero(roles != np.uint8(Role.FUNCTION))
    return positions[some], numbers[some], roles[some]


@remembered
def function_positions(captions: Captions) -> tuple[Ints, Ints]:
    """Return positions of function words among the words of the batch, ascending, and their numbers."""
    return numbered(captions, Role.FUNCTION)


def numbered(captions: Captions, role: Role) -> tuple[Ints, Ints]:
    """Return positions of words with a role among the words of the batch, ascending, and their numbers."""
    positions, numbers, roles = _found(captions) if role is Role.FUNCTION else _rare(captions)
    some = np.flatnonzero(roles & np.uint8(role))
    return positions[some], numbers[some]


def with_role(captions: Captions, role: Role) -> Ints:
    """Return positions of words with a role among the words of the batch, ascending."""
    return numbered(captions, role)[0]
