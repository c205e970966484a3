"""One number for each caption that is alike up to letter case and digits, so that repeats can be counted."""

import numpy as np
import numpy.typing as npt

from filters.text.captions import Captions
from filters.text.code_points import DIGIT
from filters.text.words import LETTERS_AT_ONCE, MASKS, MIX, Keys, mixed


def folded_keys(captions: Captions) -> Keys:
    """Return a 64-bit hash of each caption, letter case folded and digits alike, shape (samples,).

    Two different captions share a hash about never: one pair expected among six billion captions.
    """
    if not len(captions):
        return np.zeros(0, dtype=np.uint64)
    units = captions.lower.copy()
    units[captions.kinds == DIGIT] = ord("0")
    fours = np.ndarray((len(units) - 3,), dtype="<u8", buffer=units.data, strides=(2,))
    pieces = np.maximum(-(-captions.length // LETTERS_AT_ONCE), 1)
    begins = np.cumsum(pieces) - pieces
    number = np.arange(pieces.sum()) - np.repeat(begins, pieces)
    left = np.clip(np.repeat(captions.length, pieces) - LETTERS_AT_ONCE * number, 0, LETTERS_AT_ONCE)
    read = fours[np.repeat(captions.starts + 1, pieces) + LETTERS_AT_ONCE * number] & MASKS[left]
    # Pieces add up, so each is mixed with its place first.
    sums = np.add.reduceat(mixed(read ^ mixed((number + 1).astype(np.uint64))), begins)
    return mixed(sums ^ captions.length.astype(np.uint64) * MIX)


def spikes(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return how many times commoner each length is than the three on both sides of it, shape (lengths,).

    Args:
        lengths: How many captions of a source have each length, from 0.
    """
    padded = np.pad(lengths, 3)
    around = np.stack([padded[3 + step : len(padded) - 3 + step] for step in (-3, -2, -1, 1, 2, 3)])
    return np.asarray(lengths / np.maximum(np.median(around, axis=0), 1), dtype=np.float32)
