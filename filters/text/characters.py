"""Counts of characters: letters, digits, capitals, signs, units, scripts, runs."""

import numpy as np
import numpy.typing as npt

from filters.text import code_points
from filters.text.captions import Bools, Captions, Floats, Ints, earlier, later, remembered
from filters.text.code_points import (
    DIGIT,
    HASH,
    JOINER,
    LETTER,
    MARK,
    ROW,
    SCRIPT_NAMES,
    SEPARATOR,
    SPACE,
    UNSPACED,
    UPPER,
)

CHARACTERS_PER_WORD = 1.7
"""About how many characters of a script without spaces make one word."""


def share(part: Ints, whole: Ints) -> Floats:
    """Return part by whole; 0 where there is nothing to share."""
    return np.divide(part, whole, out=np.zeros(len(part), dtype=np.float64), where=whole > 0).astype(np.float32)


@remembered
def letter_mask(captions: Captions) -> Bools:
    """Return which code points are letters or marks of any script."""
    return (captions.kinds >= MARK) & (captions.kinds <= UNSPACED)


@remembered
def word_mask(captions: Captions) -> Bools:
    """Return which code points are letters, marks or digits of a spaced script."""
    return (captions.kinds >= DIGIT) & (captions.kinds <= UPPER)


@remembered
def letters(captions: Captions) -> Ints:
    """Return letters and marks of each caption."""
    return captions.count(letter_mask(captions))


@remembered
def digits(captions: Captions) -> Ints:
    """Return digits of each caption."""
    return captions.count(captions.kinds == DIGIT)


@remembered
def capitals(captions: Captions) -> Ints:
    """Return capital letters of each caption."""
    return captions.count(captions.kinds == UPPER)


@remembered
def cased(captions: Captions) -> Ints:
    """Return letters of scripts that have two cases."""
    lower = (captions.kinds == LETTER) & (captions.points < 0x590)
    return captions.count(lower) + capitals(captions)


@remembered
def spaces(captions: Captions) -> Ints:
    """Return spaces of each caption."""
    return captions.count(captions.kinds == SPACE)


@remembered
def signs(captions: Captions) -> Ints:
    """Return characters that are neither letter, mark, digit nor space."""
    return np.asarray(captions.length - letters(captions) - digits(captions) - spaces(captions))


@remembered
def separators(captions: Captions) -> Ints:
    """Return commas, bars, semicolons, slashes and dots between fragments."""
    return captions.count(captions.kinds == SEPARATOR)


@remembered
def hashtags(captions: Captions) -> Ints:
    """Return number signs with a letter behind them."""
    positions = np.flatnonzero(captions.kinds == HASH)  # few
    marked = positions[letter_mask(captions)[positions + 1]]
    return np.asarray(np.bincount(captions.rows_of(marked), minlength=len(captions)))


@remembered
def unspaced(captions: Captions) -> Ints:
    """Return characters of scripts without spaces."""
    return captions.count(captions.kinds == UNSPACED)


@remembered
def spaced_words(captions: Captions) -> Ints:
    """Return runs of letters and digits of spaced scripts; an apostrophe or hyphen inside joins."""
    inside, joiner = captions.packed(word_mask(captions)), captions.packed(captions.kinds == JOINER)
    joined = earlier(joiner, 1) & earlier(inside, 2)
    return captions.count_bits(inside & ~earlier(inside, 1) & ~joined)


@remembered
def units(captions: Captions) -> Floats:
    """Return the length in words, also for scripts without spaces: their characters count 1/1.7 each."""
    found = spaced_words(captions) + unspaced(captions) / CHARACTERS_PER_WORD
    return np.asarray(found, dtype=np.float32)


@remembered
def foreign(captions: Captions) -> tuple[Ints, Ints, npt.NDArray[np.uint32]]:
    """Return positions, captions and code points of all that is beyond ASCII; mostly few."""
    if captions.points.dtype == np.uint8:  # all of it is ASCII
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, np.zeros(0, dtype=np.uint32)
    positions = np.flatnonzero(captions.points > 0x7F)
    return positions, captions.rows_of(positions), captions.points[positions]


@remembered
def ascii_letters(captions: Captions) -> Ints:
    """Return letters a to z of each caption, capitals too."""
    if captions.points.dtype == np.uint8:
        return letters(captions)
    return captions.count(letter_mask(captions) & (captions.points < 0x80))


@remembered
def by_script(captions: Captions) -> Ints:
    """Return letters of each script, shape (samples, scripts), in the order of `SCRIPT_NAMES`."""
    _, rows, points = foreign(captions)
    width = len(SCRIPT_NAMES)
    beyond = np.take(code_points.scripts(), points, mode="wrap")
    found: Ints = np.bincount(rows * width + beyond, minlength=len(captions) * width).reshape(-1, width)
    # ASCII letters are all that was not looked at.
    found[:, SCRIPT_NAMES.index("Latin")] += ascii_letters(captions)
    found[:, 0] = 0
    return found


@remembered
def main_script(captions: Captions) -> npt.NDArray[np.int64]:
    """Return the script of most letters, an index into `SCRIPT_NAMES`; 0 where there is no letter."""
    counts = by_script(captions)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), 0) if len(captions) else np.zeros(0, dtype=np.int64)


def has_run(captions: Captions, where: Bools, size: int) -> Bools:
    """Return which captions have at least `size` marked code points in a row."""
    grown, reach = captions.packed(where), 1
    while reach < size:
        step = min(reach, size - reach, 63)
        grown, reach = grown & later(grown, step), reach + step
    return captions.having_bits(grown)


@remembered
def same_as_next(captions: Captions) -> Bools:
    """Return which code points are followed by themselves; the line feeds between captions are not."""
    found = np.zeros(len(captions.points), dtype=bool)
    found[:-1] = captions.points[1:] == captions.points[:-1]
    return np.asarray(found & (captions.kinds != ROW))
