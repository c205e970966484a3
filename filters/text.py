"""Measures of captions, script-aware and vectorised over an Arrow string array.

Patterns are RE2: no look-around, and never `\\b` or `\\w`, which mean ASCII there.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Scripts that are written without spaces: Han, kana, Thai, Lao, Khmer, Myanmar.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
CHARACTERS_PER_WORD = 1.7  # about how many characters of an unspaced script make one word


def normalised(captions: pa.Array) -> pa.Array:
    """Return captions in NFKC with white space collapsed; null becomes the empty caption."""
    text = pc.utf8_normalize(pc.fill_null(captions, ""), form="NFKC")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"\s+", " "))


def matches(captions: pa.Array, pattern: str) -> Bools:
    """Return where a pattern is found anywhere in the normalised caption, shape (samples,)."""
    found = pc.match_substring_regex(normalised(captions), pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def count(captions: pa.Array, pattern: str) -> Floats:
    """Return how often a pattern is found in the normalised caption, shape (samples,)."""
    found = pc.count_substring_regex(normalised(captions), pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float32)


def length(captions: pa.Array) -> Floats:
    """Return code points of the normalised caption, shape (samples,)."""
    return np.asarray(pc.utf8_length(normalised(captions)).to_numpy(zero_copy_only=False), dtype=np.float32)


def share(captions: pa.Array, pattern: str) -> Floats:
    """Return matches of a one-character pattern per code point; 0 for the empty caption."""
    size = length(captions)
    return np.asarray(np.divide(count(captions, pattern), size, out=np.zeros_like(size), where=size > 0))


def units(captions: pa.Array) -> Floats:
    """Return the length in words, also for scripts without spaces.

    Runs of letters or digits of spaced scripts count one each; characters of unspaced scripts
    count 1/1.7 each, so that one threshold works across scripts.
    """
    unspaced = count(captions, f"[{UNSPACED}]")
    spaced = pc.replace_substring_regex(normalised(captions), f"[{UNSPACED}]", " ")
    runs = pc.count_substring_regex(spaced, r"[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*")
    words = np.asarray(runs.to_numpy(zero_copy_only=False), dtype=np.float32)
    return np.asarray(words + unspaced / np.float32(CHARACTERS_PER_WORD), dtype=np.float32)


def coverage(captions: pa.Array, pattern: str) -> Floats:
    """Return the share of the caption that a pattern covers, shape (samples,)."""
    text = normalised(captions)
    rest = pc.utf8_length(pc.replace_substring_regex(text, pattern, ""))
    size = length(captions)
    left = np.asarray(rest.to_numpy(zero_copy_only=False), dtype=np.float32)
    return np.asarray(np.divide(size - left, size, out=np.zeros_like(size), where=size > 0))


def word_count(captions: pa.Array, words: frozenset[str]) -> Floats:
    """Return how many whole words of a list a caption holds, letter case folded, shape (samples,)."""
    alone = pc.replace_substring_regex(pc.utf8_lower(normalised(captions)), r"[^\p{L}\p{M}]+", "  ")
    padded = pc.binary_join_element_wise(" ", alone, " ", "")
    pattern = " (?:" + "|".join(sorted(words)) + ") "
    found = pc.count_substring_regex(padded, pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float32)
