"""What languages say by the ends of words, by prefixes or by single signs, where others have small words."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.text.captions import Bools, Captions, Ints
from filters.text.characters import foreign
from filters.text.code_points import POINTS, UPPER
from filters.text.function_words import ENDINGS, HAN, KANA, KOREAN_ENDINGS, THAI_WORDS
from filters.text.verbs import HAN_WORDS
from filters.text.words import fours, packed, words_of

_ARABIC_PREFIXES = "وبلكف"
_ARABIC_SUFFIXES = ("ها", "هم")
_SHORTEST_ENDED = 5
_CLOSING, _CLAUSE_ENDS = "”》）」』", "，,。！!？?；"


@cache
def marked(signs: str) -> Bools:
    """Return a table of which code points are among some signs."""
    table = np.zeros(POINTS, dtype=bool)
    table[[ord(each) for each in signs]] = True
    return table


def particles(captions: Captions) -> Ints:
    """Return Japanese particles, and Chinese ones where nothing is Japanese: names hold the same characters."""
    _, rows, points = foreign(captions)
    kana = np.bincount(rows[np.take(marked(KANA), points, mode="wrap")], minlength=len(captions))
    han = np.bincount(rows[np.take(marked(HAN), points, mode="wrap")], minlength=len(captions))
    japanese = np.zeros(len(captions), dtype=bool)
    japanese[rows[(points >= 0x3041) & (points <= 0x30FF)]] = True
    return np.where(japanese, kana, han)


@cache
def _pairs() -> npt.NDArray[np.uint64]:
    """Return the listed Chinese words as two code points in one number, ascending."""
    return np.unique(np.array([ord(word[0]) << 32 | ord(word[1]) for word in HAN_WORDS], dtype=np.uint64))


def chinese_words(captions: Captions, among: Bools) -> Ints:
    """Return, of some captions without kana, listed Chinese words and marks that end a clause of four characters."""
    places, rows, points = foreign(captions)
    allowed = among.copy()
    allowed[rows[(points >= 0x3041) & (points <= 0x30FF)]] = False
    some = np.flatnonzero(allowed[rows] & _is_han(points))
    places, rows, seconds = places[some], rows[some], captions.points[places[some] + 1]
    pairs = points[some].astype(np.uint64) << np.uint64(32) | seconds
    listed = np.take(_pairs(), np.searchsorted(_pairs(), pairs), mode="clip") == pairs
    # A closing quotation mark may stand between the clause and what ends it.
    quoted = np.take(marked(_CLOSING), seconds, mode="wrap")
    ended = np.take(marked(_CLAUSE_ENDS), np.where(quoted, captions.points[places + 2], seconds), mode="wrap")
    ends = np.flatnonzero(ended)
    long = _is_han(captions.points[np.maximum(places[ends, None] - np.arange(4), 0)]).all(axis=1)
    return np.bincount(np.concatenate((rows[listed], rows[ends[long]])), minlength=len(captions))


def _is_han(points: npt.NDArray[Any]) -> Bools:
    return np.asarray((points >= 0x4E00) & (points <= 0x9FFF))


@cache
def _listed_endings() -> tuple[tuple[Bools, tuple[npt.NDArray[np.uint64], ...]], ...]:
    """Return for each language the letters that show it, and its endings of two, three and four letters."""
    return tuple(
        (
            marked(signs + signs.upper()),
            tuple(np.array([packed(each) for each in ends.split() if len(each) == size]) for size in (2, 3, 4)),
        )
        for signs, ends in ENDINGS.values()
    )


def endings(captions: Captions, among: Bools) -> Ints:
    """Return one for captions, of some, with a word in small letters that ends like a verb or a case."""
    found = np.zeros(len(captions), dtype=np.int64)
    _, rows, points = foreign(captions)
    some = among[rows]
    rows, points = rows[some], points[some]
    if not len(points):
        return found
    words = words_of(captions)
    beyond = np.zeros(len(captions), dtype=bool)
    beyond[rows] = True
    long = np.flatnonzero(beyond[words.rows] & (words.sizes >= _SHORTEST_ENDED))
    long = long[captions.kinds[words.begins[long]] != UPPER]
    last = fours(captions)[words.begins[long] + words.sizes[long] - 4]
    ended_rows = words.rows[long]
    for signs, listed in _listed_endings():
        shown = np.zeros(len(captions), dtype=bool)
        shown[rows[np.take(signs, points, mode="wrap")]] = True
        mine = np.flatnonzero(shown[ended_rows])
        for dropped, ends in zip((32, 16, 0), listed, strict=True):
            ended = np.isin(last[mine] >> np.uint64(dropped), ends)
            found[ended_rows[mine[ended]]] = 1
    return found


def korean_endings(captions: Captions) -> Ints:
    """Return Korean words that end in a particle."""
    words = words_of(captions)
    lasts = captions.points[words.begins + words.sizes - 1]
    korean = np.flatnonzero((lasts >= 0xAC00) & (lasts <= 0xD7A3) & (words.sizes > 1))
    endings = korean[np.isin(lasts[korean], [ord(each) for each in KOREAN_ENDINGS])]
    return np.asarray(np.bincount(words.rows[endings], minlength=len(captions)))


@cache
def _suffixes() -> npt.NDArray[np.uint64]:
    return np.array([packed(each) for each in _ARABIC_SUFFIXES])


def arabic_affixes(captions: Captions) -> Ints:
    """Return Arabic words with the article, behind a preposition of one letter or not, or formed like a verb."""
    words = words_of(captions)
    firsts = captions.points[words.begins]
    arabic = np.flatnonzero((firsts >= 0x600) & (firsts <= 0x6FF) & (words.sizes > 3))
    begin = fours(captions)[words.begins[arabic]]
    two = np.uint64(0xFFFFFFFF)
    article = (begin & two) == packed("ال")
    article |= ((begin >> np.uint64(16)) & two) == packed("ال")
    article |= (begin & two) == packed("لل")
    article &= np.isin(firsts[arabic], [ord(each) for each in "ا" + _ARABIC_PREFIXES])
    end = fours(captions)[words.begins[arabic] + words.sizes[arabic] - 4] >> np.uint64(32)
    verb = firsts[arabic] == ord("ي")
    owned = np.isin(end, _suffixes())
    joined = (firsts[arabic] == ord("و")) & (words.sizes[arabic] > 4)
    return np.asarray(np.bincount(words.rows[arabic[article | verb | owned | joined]], minlength=len(captions)))


def thai_words(captions: Captions) -> Ints:
    """Return listed Thai words, which no space tells apart."""
    found = np.zeros(len(captions), dtype=np.int64)
    _, rows, points = foreign(captions)
    thai = np.unique(rows[(points >= 0xE00) & (points <= 0xE7F)])
    if len(thai):
        counted = pc.count_substring_regex(captions.text.take(pa.array(thai)), "|".join(THAI_WORDS))
        found[thai] = counted.to_numpy(zero_copy_only=False)
    return found
