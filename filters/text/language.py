"""Which language a caption is in, by its script and its function words; unknown where neither tells.

No model: a word list votes, so a guess costs a fraction of a microsecond. Captions under `SHORTEST`
characters of a script that several languages share are unknown, because language identification fails there.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.text.captions import Captions, remembered
from filters.text.characters import by_script, letters, main_script
from filters.text.code_points import SCRIPT_NAMES
from filters.text.function_words import FUNCTION_WORDS
from filters.text.words import Lookup, keys_of, words_of

SHORTEST = 20

# Scripts that one language of our sources is written in.
OF_SCRIPT = {
    "Greek": "el", "Hebrew": "he", "Armenian": "hy", "Bengali": "bn", "Gurmukhi": "pa", "Gujarati": "gu",
    "Tamil": "ta",
    "Telugu": "te", "Kannada": "kn", "Malayalam": "ml", "Sinhala": "si", "Thai": "th", "Lao": "lo", "Tibetan": "bo",
    "Myanmar": "my", "Georgian": "ka", "Ethiopic": "am", "Khmer": "km", "Hangul": "ko", "Kana": "ja", "Han": "zh",
}  # fmt: skip

# Languages that a vote decides, by script.
_VOTED = {
    "Latin": tuple(
        code for code in FUNCTION_WORDS if code not in ("ru", "uk", "bg", "sr", "el", "ar", "he", "fa", "hi")
    ),
    "Cyrillic": ("ru", "uk", "bg", "sr"),
    "Arabic": ("ar", "fa"),
    "Devanagari": ("hi",),
}
_CODES = tuple(FUNCTION_WORDS)
NAMES = ("", *sorted({*_CODES, *OF_SCRIPT.values()}))
"""Language codes by number; 0 is unknown."""

_SCALE = 840  # divisible by the number of languages that may share a word, so that votes are whole numbers


@cache
def _voters() -> tuple[Lookup, npt.NDArray[np.int32]]:
    """Return the words and what each gives to each language; a word of four languages gives each a quarter."""
    speakers: dict[str, list[int]] = {}
    for number, listed in enumerate(FUNCTION_WORDS.values()):
        for word in listed.split():
            speakers.setdefault(word, []).append(number)
    words = sorted(speakers)
    votes = np.zeros((len(words), len(_CODES)), dtype=np.int32)
    for row, word in enumerate(words):
        votes[row, speakers[word]] = _SCALE // len(speakers[word])
    return Lookup({int(key): row for row, key in enumerate(keys_of(words))}), votes


@remembered
def guessed(captions: Captions) -> npt.NDArray[np.int64]:
    """Return the language of each caption, an index into `NAMES`."""
    lookup, votes = _voters()
    words = words_of(captions)
    positions, which = lookup.find(words.keys)
    given = np.zeros((len(captions), len(_CODES)), dtype=np.int32)
    if len(positions):
        rows, firsts = np.unique(words.rows[positions], return_index=True)
        given[rows] = np.add.reduceat(votes[which], firsts)
    script = main_script(captions)
    found = np.zeros(len(captions), dtype=np.int64)
    # Han beside kana is Japanese.
    kana = by_script(captions)[:, SCRIPT_NAMES.index("Kana")] > 0
    for name, code in OF_SCRIPT.items():
        found[script == SCRIPT_NAMES.index(name)] = NAMES.index(code)
    found[(script == SCRIPT_NAMES.index("Han")) & kana] = NAMES.index("ja")
    enough = letters(captions) >= SHORTEST * 3 // 4
    for name, codes in _VOTED.items():
        columns = [_CODES.index(code) for code in codes]
        some = np.flatnonzero((script == SCRIPT_NAMES.index(name)) & enough)
        ballots = given[some][:, columns]
        best = ballots.argmax(axis=1)
        numbers = np.array([NAMES.index(code) for code in codes])
        found[some] = np.where(ballots.max(axis=1, initial=0) > 0, numbers[best], 0)
    return found


def names(captions: Captions) -> pa.DictionaryArray:
    """Return the guessed languages as text, "" where unknown."""
    return pa.DictionaryArray.from_arrays(pa.array(guessed(captions), pa.int32()), pa.array(NAMES))
