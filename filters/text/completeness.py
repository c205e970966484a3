"""Signs of connected language: function words, participles and particles, and whether the end is missing."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.text.captions import Bools, Captions, Floats, Ints, remembered
from filters.text.characters import by_script, foreign, share
from filters.text.code_points import SCRIPT_NAMES, UPPER
from filters.text.function_words import (
    DANGLING,
    FUNCTION_WORDS,
    KOREAN_ENDINGS,
    PARTICLES,
    THAI_WORDS,
    WITHOUT_ARTICLES,
)
from filters.text.words import Lookup, fours, keys_of, packed, words_of

# Scripts of the languages listed in `FUNCTION_WORDS`, and those with particles.
JUDGED_SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Han", "Kana", "Hangul", "Thai",
)  # fmt: skip

_OPEN_SIGNS = ",，、:;-–—|/&([{…"
_ARABIC_PREFIXES = "وبلكف"


@cache
def _speakers() -> tuple[Lookup, npt.NDArray[np.uint64]]:
    """Return the words, and a one in sixteen bits of each language that has it: four languages to a number."""
    languages = list(FUNCTION_WORDS)
    words = sorted({word for listed in FUNCTION_WORDS.values() for word in listed.split()})
    spoken = np.zeros((len(words), -(-len(languages) // 4) * 4), dtype="<u2")
    for column, listed in enumerate(FUNCTION_WORDS.values()):
        mine = set(listed.split())
        spoken[[word in mine for word in words], column] = 1
    return Lookup({int(key): row for row, key in enumerate(keys_of(words))}), spoken.view("<u8")


@cache
def _dangling_words() -> Lookup:
    words = {word for listed in DANGLING.values() for word in listed.split()}
    return Lookup({int(key): 1 for key in keys_of(sorted(words))})


@remembered
def by_language(captions: Captions) -> npt.NDArray[np.uint16]:
    """Return closed-class words of each listed language, shape (samples, languages and padding)."""
    lookup, spoken = _speakers()
    words = words_of(captions)
    positions, which = lookup.find(words.keys)
    found = np.zeros((len(captions), spoken.shape[1]), dtype="<u8")
    if len(positions):
        rows = words.rows[positions]
        firsts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        # One addition counts four languages; no caption has enough words for a count to spill over.
        for column in range(spoken.shape[1]):
            found[rows[firsts], column] = np.add.reduceat(spoken[which, column], firsts)
    return found.view("<u2")


@remembered
def function_words(captions: Captions) -> Ints:
    """Return closed-class words of the language that has most of them, and particles.

    Languages without articles are granted one more where they have any; Arabic articles count, though
    they are written as part of the next word.
    """
    counts = by_language(captions)
    if not len(captions):
        return np.zeros(0, dtype=np.int64)
    found = counts.max(axis=1).astype(np.int64)
    bare = np.isin(counts.argmax(axis=1), [list(FUNCTION_WORDS).index(code) for code in WITHOUT_ARTICLES])
    found += bare & (found > 0)
    _, rows, points = foreign(captions)
    if len(points):
        particles = np.isin(points, [ord(each) for each in PARTICLES])
        found += np.bincount(rows[particles], minlength=len(captions))
        found += _korean_endings(captions) + _arabic_articles(captions)
        thai = np.flatnonzero(by_script(captions)[:, SCRIPT_NAMES.index("Thai")])
        if len(thai):
            counted = pc.count_substring_regex(captions.text.take(pa.array(thai)), "|".join(THAI_WORDS))
            found[thai] += counted.to_numpy(zero_copy_only=False)
    return found


def _korean_endings(captions: Captions) -> Ints:
    """Return Korean words that end in a particle."""
    words = words_of(captions)
    lasts = captions.points[words.begins + words.sizes - 1]
    korean = np.flatnonzero((lasts >= 0xAC00) & (lasts <= 0xD7A3) & (words.sizes > 1))
    endings = korean[np.isin(lasts[korean], [ord(each) for each in KOREAN_ENDINGS])]
    return np.asarray(np.bincount(words.rows[endings], minlength=len(captions)))


def _arabic_articles(captions: Captions) -> Ints:
    """Return Arabic words that begin with the article, behind a preposition of one letter or not."""
    words = words_of(captions)
    firsts = captions.points[words.begins]
    arabic = np.flatnonzero((firsts >= 0x600) & (firsts <= 0x6FF) & (words.sizes > 3))
    begin = fours(captions)[words.begins[arabic]]
    two = np.uint64(0xFFFFFFFF)
    article = (begin & two) == packed("ال")
    article |= ((begin >> np.uint64(16)) & two) == packed("ال")
    article |= (begin & two) == packed("لل")
    prefixed = np.isin(firsts[arabic], [ord(each) for each in "ا" + _ARABIC_PREFIXES])
    hits = arabic[article & prefixed]
    return np.asarray(np.bincount(words.rows[hits], minlength=len(captions)))


@remembered
def participles(captions: Captions) -> Ints:
    """Return English words that end in -ing or -ed: "stacked", "running"."""
    words = words_of(captions)
    last = fours(captions)[np.maximum(words.begins + words.sizes - 4, 0)]
    ends = ((last >> np.uint64(16)) == packed("ing")) | ((last >> np.uint64(32)) == packed("ed"))
    hits = np.flatnonzero(ends & (words.sizes >= 5))
    return np.asarray(np.bincount(words.rows[hits], minlength=len(captions)))


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
def judged(captions: Captions) -> Bools:
    """Return which captions have a script whose function words are listed."""
    numbers = [SCRIPT_NAMES.index(name) for name in JUDGED_SCRIPTS]
    return np.asarray(by_script(captions)[:, numbers].any(axis=1))


@remembered
def cut_off(captions: Captions) -> Bools:
    """Return which captions end on an open sign, an ellipsis, or a word that announces another."""
    lasts = captions.points[captions.last]
    found = np.isin(lasts, [ord(each) for each in _OPEN_SIGNS])
    before = [captions.points[np.maximum(captions.last - back, 0)] == ord(".") for back in (1, 2)]
    found |= (lasts == ord(".")) & before[0] & before[1]
    words = words_of(captions)
    filled = np.flatnonzero(words.counts)
    ending = (words.firsts + words.counts - 1)[filled]
    hits, _ = _dangling_words().find(words.keys[ending])
    # Only where the word is the very end: "what is it made of?" is whole.
    at_end = words.begins[ending[hits]] + words.sizes[ending[hits]] - 1 == captions.last[filled[hits]]
    found[filled[hits[at_end]]] = True
    return found
