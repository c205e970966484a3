"""Signs of connected language: function words, participles and particles, and whether the end is missing."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.text.captions import Bools, Captions, Floats, Ints, remembered
from filters.text.characters import ascii_letters, capitals, foreign, letters, share, unspaced
from filters.text.code_points import DIGIT, SCRIPT_NAMES, UPPER, scripts
from filters.text.endings import arabic_affixes, chinese_words, endings, korean_endings, marked, particles, thai_words
from filters.text.function_words import FUNCTION_WORDS, WITHOUT_ARTICLES
from filters.text.lexicon import Role, function_positions, listed_words, with_role
from filters.text.words import fours, packed, words_in, words_of

# Scripts of the languages listed in `FUNCTION_WORDS`, and those with particles.
JUDGED_SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Han", "Kana", "Hangul", "Thai",
)  # fmt: skip

_OPEN_SIGNS = ",，、;-–—|/&([{…"
_MOST_GERMAN = np.float32(0.8)
_SHOUTED = 0.9


@cache
def _without_articles() -> Bools:
    # Padding never has most words where any language has one.
    return np.array([code in WITHOUT_ARTICLES for code in FUNCTION_WORDS] + [False] * 8)


@cache
def _spoken(lane: str) -> list[npt.NDArray[np.uint64]]:
    """Return for each listed word a one in the lane of each language that has it, many lanes to a number."""
    lanes, listed = 8 // np.dtype(lane).itemsize, listed_words()
    spoken = np.zeros((len(listed), -(-len(FUNCTION_WORDS) // lanes) * lanes), dtype=lane)
    for column, words in enumerate(FUNCTION_WORDS.values()):
        mine = set(words.split())
        spoken[[word in mine for word in listed], column] = 1
    return [np.ascontiguousarray(column) for column in spoken.view("<u8").T]


@remembered
def by_language(captions: Captions) -> npt.NDArray[Any]:
    """Return closed-class words of each listed language, shape (samples, languages and padding)."""
    positions, numbers = function_positions(captions)
    rows = words_of(captions).rows[positions]
    firsts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])) if len(rows) else rows
    most = int(np.diff(np.append(firsts, len(rows))).max(initial=0))
    # One addition counts eight languages, or four where a caption has so many words that a lane spills over.
    lane = "<u1" if most < 256 else "<u2"
    columns = _spoken(lane)
    found = np.zeros((len(columns), len(captions)), dtype="<u8")
    if len(rows):
        for column, spoken in zip(found, columns, strict=True):
            column[rows[firsts]] = np.add.reduceat(spoken[numbers], firsts)
    # Languages one below the other: so the most of them all is found many captions at a time.
    lanes = 8 // np.dtype(lane).itemsize
    spread = found.view(lane).reshape(len(columns), len(captions), lanes).transpose(0, 2, 1)
    return np.ascontiguousarray(spread).reshape(len(columns) * lanes, len(captions)).T


@remembered
def function_words(captions: Captions) -> Ints:
    """Return closed-class words of the language that has most of them, and particles.

    Languages without articles are granted one more where they have any; Arabic articles count, though
    they are written as part of the next word.
    """
    counts = by_language(captions)
    if not len(captions):
        return np.zeros(0, dtype=np.int64)
    without = _without_articles()[: counts.shape[1]]
    most, others = (counts.T[rows].max(axis=0) for rows in (without, ~without))
    found = np.maximum(most, others).astype(np.int64)
    granted = most > others
    if len(foreign(captions)[2]):
        # Two closed-class words are enough by themselves; few captions beyond ASCII have fewer.
        ended = endings(captions, found < 2)
        # Where nothing but an ending was found, no language is known that would have articles.
        granted |= (found == 0) & (ended > 0)
        found += ended + korean_endings(captions) + arabic_affixes(captions) + thai_words(captions)
        found += particles(captions)
        found += chinese_words(captions, found < 2)
    return np.asarray(found + granted)


def _apart(captions: Captions, places: Ints) -> Bools:
    return np.asarray((captions.kinds[places] != DIGIT) & (captions.points[places] != ord("_")))


def connected(captions: Captions, some: Ints) -> Bools:
    """Return which of some captions show two function words of any language, or two particles.

    Letters beside a digit or an underscore are part of a number or a name of a file, as "de" in "c613de94".
    """
    words = words_of(captions)
    positions = words_in(captions, some)
    listed = np.zeros(len(words.keys), dtype=bool)
    listed[function_positions(captions)[0]] = True
    positions = positions[listed[positions]]
    positions = positions[_apart(captions, words.begins[positions] - 1)]
    positions = positions[_apart(captions, words.begins[positions] + words.sizes[positions])]
    found = np.bincount(words.rows[positions], minlength=len(captions))[some]
    return np.asarray((found >= 2) | ((unspaced(captions)[some] > 0) & (function_words(captions)[some] >= 2)))


@remembered
def participles(captions: Captions) -> Ints:
    """Return English words that end in -ing or -ed, "stacked" and "running", without those that name things."""
    rows = words_of(captions).rows
    found = np.bincount(rows[_ended(captions)], minlength=len(captions))
    return np.asarray(found - np.bincount(rows[with_role(captions, Role.THING)], minlength=len(captions)))


@remembered
def _ended(captions: Captions) -> Ints:
    """Return positions of words in -ing or -ed among the words of the batch, ascending."""
    words = words_of(captions)
    ends = words.begins + words.sizes
    last = captions.lower[ends - 1]
    maybe = np.flatnonzero(((last == ord("g")) | (last == ord("d"))) & (words.sizes >= 5))
    four = fours(captions)[ends[maybe] - 4]
    return np.asarray(maybe[((four >> np.uint64(16)) == packed("ing")) | ((four >> np.uint64(32)) == packed("ed"))])


@remembered
def led_on(captions: Captions) -> Bools:
    """Return which captions have a participle with a small word right behind it: "landing at", "painted by"."""
    rows = words_of(captions).rows
    small = np.zeros(len(rows) + 1, dtype=bool)
    small[function_positions(captions)[0]] = True
    things = np.zeros(len(rows), dtype=bool)
    things[with_role(captions, Role.THING)] = True
    hits = _ended(captions)
    hits = hits[small[hits + 1] & ~things[hits]]
    hits = hits[rows[hits] == rows[hits + 1]]
    found = np.zeros(len(captions), dtype=bool)
    found[rows[hits]] = True
    return found


@remembered
def finite_verbs(captions: Captions) -> Ints:
    """Return listed verbs of any language, in forms that say what happens."""
    listed = words_of(captions).rows[with_role(captions, Role.VERB)]
    return np.asarray(np.bincount(listed, minlength=len(captions)))


@remembered
def capitalised(captions: Captions) -> Floats:
    """Return the share of words after the first that begin with a capital; titles of things do."""
    words = words_of(captions)
    hits = np.flatnonzero(captions.kinds[words.begins] == UPPER)
    found = np.bincount(words.rows[hits], minlength=len(captions))
    filled = np.flatnonzero(words.counts)
    found[filled] -= captions.kinds[words.begins[words.firsts[filled]]] == UPPER
    return share(found, np.maximum(words.counts - 1, 0))


@remembered
def titles(captions: Captions, most: float) -> Bools:
    """Return which captions have more than a share of words in capitals, where capitals mean titles.

    German writes all nouns so, in scripts without spaces the few Latin words are names, and where nearly all letters
    are capitals they tell nothing: none of these is one.
    """
    found = (capitalised(captions) > np.float32(most)) & (capitals(captions) < _SHOUTED * letters(captions))
    some = np.flatnonzero(found)
    german = by_language(captions)[some].argmax(axis=1) == tuple(FUNCTION_WORDS).index("de")
    found[some] &= ~(german & (capitalised(captions)[some] <= _MOST_GERMAN))
    return found & (unspaced(captions) * 2 < letters(captions))


@remembered
def judged(captions: Captions) -> Bools:
    """Return which captions have a script whose function words are listed."""
    numbers = [SCRIPT_NAMES.index(name) for name in JUDGED_SCRIPTS]
    found = ascii_letters(captions) > 0
    _, rows, points = foreign(captions)
    if not len(points):
        return found
    known = np.isin(np.arange(len(SCRIPT_NAMES)), numbers)
    found[rows[known[np.take(scripts(), points, mode="wrap")]]] = True
    return found


@remembered
def cut_off(captions: Captions) -> Bools:
    """Return which captions end on an open sign, an ellipsis, or a word that announces another."""
    lasts = captions.points[captions.last]
    found = np.take(marked(_OPEN_SIGNS), lasts, mode="wrap")
    before = [captions.points[np.maximum(captions.last - back, 0)] == ord(".") for back in (1, 2)]
    found |= (lasts == ord(".")) & before[0] & before[1]
    words, hits = words_of(captions), with_role(captions, Role.DANGLING)
    # Only where the word is the very end: "what is it made of?" is whole.
    rows, ends = words.rows[hits], words.begins[hits] + words.sizes[hits] - 1
    found[rows[ends == captions.last[rows]]] = True
    return found
