"""How likely a run of Latin letters is, by the pairs of letters that real words are made of.

`letter_pairs.json` holds one number per pair: the logarithm of how often the second letter follows the
first, in hundredths of a nat. Accents are taken off; 0 stands for what is no Latin letter.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from filters.text.captions import Bools, Captions, Floats, Ints, remembered
from filters.text.characters import has_run, letters

PATH = Path(__file__).with_name("letter_pairs.json")
SYMBOLS = 27
_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_IS_CONSONANT = bytes(0 < number < 27 and chr(ord("a") - 1 + number) in _CONSONANTS for number in range(256))
_SUSPECT = 6


def stretched(captions: Captions, positions: Ints) -> Bools:
    """Return which of some code points repeat the letter before them: "yesss" is a word that was drawn out."""
    letter = captions.latin[positions]
    return np.asarray((letter == captions.latin[positions - 1]) & (letter > 0))


@remembered
def suspect(captions: Captions) -> Ints:
    """Return the captions with six Latin consonants in a row; noise has them, and nearly all others do not."""
    return np.flatnonzero(has_run(captions, consonants(captions), _SUSPECT))


def unspeakable(captions: Captions, size: int) -> Bools:
    """Return which captions have `size` Latin consonants in a row, each counted once however often it repeats.

    Args:
        captions: Where to look.
        size: At least six.
    """
    found = np.zeros(len(captions), dtype=bool)
    rows = suspect(captions)
    if len(rows):
        positions, _ = captions.spread(rows)
        positions = positions[~stretched(captions, positions)]
        inside = np.append(False, consonants(captions)[positions])  # a caption begins with a line feed
        edges = np.flatnonzero(np.diff(np.append(inside, False).astype(np.int8)))
        runs = edges[1::2] - edges[::2] >= size
        found[captions.rows_of(positions[edges[::2][runs]])] = True
    return found


@remembered
def pairs(captions: Captions) -> npt.NDArray[np.uint16]:
    """Return the pair that each code point makes with the next one; pair 0 has no letter."""
    found = captions.latin.astype(np.uint16)
    found *= SYMBOLS
    found[:-1] += captions.latin[1:]
    return found


@cache
def table() -> npt.NDArray[np.int32]:
    """Return the learned logarithms in hundredths, shape (27 * 27,); 0 for the pair without letters."""
    return np.asarray(json.loads(PATH.read_text())["hundredths"], dtype=np.int32).reshape(-1)


def learn(batches: Iterable[Captions]) -> npt.NDArray[np.int32]:
    """Return the table that a set of captions teaches, shape (27, 27), one count added to each pair."""
    counts = np.ones((SYMBOLS, SYMBOLS))
    for captions in batches:
        counts += np.bincount(pairs(captions), minlength=SYMBOLS**2).reshape(SYMBOLS, SYMBOLS)
    counts[0, 0] = 0
    logs = np.log(np.where(counts, counts, 1) / counts.sum(axis=1, keepdims=True))
    return np.round(np.where(counts, logs, 0) * 100).astype(np.int32)


@remembered
def latin_letters(captions: Captions) -> Ints:
    """Return Latin letters of each caption."""
    if captions.points.dtype == np.uint8:
        return letters(captions)
    return captions.count(captions.latin > 0)


@remembered
def consonants(captions: Captions) -> npt.NDArray[np.bool_]:
    """Return which code points are Latin consonants."""
    return np.frombuffer(captions.latin.tobytes().translate(_IS_CONSONANT), dtype=bool)


@remembered
def likelihood(captions: Captions) -> Floats:
    """Return the mean logarithm per letter pair, begins and ends of words included, doubled letters left out.

    0 without six Latin consonants in a row: noise has them, and nearly all captions do not, which are not looked at
    any closer.
    """
    found = np.zeros(len(captions), dtype=np.float32)
    rows = suspect(captions)
    if len(rows):
        positions, starts = captions.spread(rows)
        some = captions.latin[positions].astype(np.uint16) * np.uint16(SYMBOLS) + captions.latin[positions + 1]
        some[stretched(captions, positions + 1)] = 0
        # Whole numbers add up alike in any batch; floats would not.
        sums = np.add.reduceat(np.take(table(), some, mode="wrap"), starts, dtype=np.int32)
        sizes = np.add.reduceat(some > 0, starts, dtype=np.int32)
        found[rows] = sums / (np.maximum(sizes, 1) * 100)
    return found
