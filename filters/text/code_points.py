"""What every code point is, as tables to look whole batches up in.

Tables come from Python's own Unicode data; scripts come from Unicode blocks, which is enough to tell how
a language is written.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

POINTS = 0x110000
# Beyond the third plane nothing is assigned but tags, variation selectors and private use.
ASSIGNED = (*range(0x40000), *range(0xE0000, 0xE0200))

# Kinds. What belongs to a word of a spaced script lies together, so that one comparison finds it.
SIGN, SPACE, DIGIT, MARK, LETTER, UPPER, UNSPACED, ROW, JOINER, SEPARATOR, HASH, MARKUP = range(12)

KIND_SHIFT, LATIN_SHIFT = 16, 24

_SPECIAL_KINDS = {JOINER: "'’-", SEPARATOR: ",，|;；/·•", HASH: "#", MARKUP: "<>{}=\\&$%"}

SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": (
        (0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0x24F), (0x250, 0x2AF), (0x1E00, 0x1EFF),
        (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xAB30, 0xAB6F), (0xFB00, 0xFB06),
    ),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x590, 0x5FF), (0xFB1D, 0xFB4F)),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x870, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Sinhala": ((0xD80, 0xDFF),),
    "Thai": ((0xE00, 0xE7F),),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F)),
    "Ethiopic": ((0x1200, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F)),
    "Khmer": ((0x1780, 0x17FF), (0x19E0, 0x19FF)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "Kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D), (0x1B000, 0x1B16F)),
    "Han": (
        (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
    ),
}  # fmt: skip
"""Unicode blocks of each script."""

SCRIPT_NAMES = ("", *SCRIPTS)
"""Names by number in the script table; 0 is none of them."""

WITHOUT_SPACES = ("Han", "Kana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
"""Scripts whose writers put no space between words."""


@cache
def scripts() -> npt.NDArray[np.uint8]:
    """Return the script of every code point, an index into `SCRIPT_NAMES`; only letters and marks have one."""
    table = np.zeros(POINTS, dtype=np.uint8)
    for number, name in enumerate(SCRIPTS, start=1):
        for low, high in SCRIPTS[name]:
            table[low : high + 1] = number
    for point in np.flatnonzero(table):
        if unicodedata.category(chr(point))[0] not in "LM" and chr(point) not in "〇々":
            table[point] = 0
    return table


@cache
def kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of every code point."""
    table = np.full(POINTS, SIGN, dtype=np.uint8)
    by_category = {"L": LETTER, "M": MARK, "N": DIGIT, "Z": SPACE}
    for point in ASSIGNED:
        category = unicodedata.category(chr(point))
        kind = by_category.get(category[0], SIGN)
        table[point] = UPPER if category in ("Lu", "Lt") else kind
    # They join letters of one word in Persian, Hindi and others.
    table[[0x200C, 0x200D]] = MARK
    unspaced = [SCRIPT_NAMES.index(name) for name in WITHOUT_SPACES]
    table[np.isin(scripts(), unspaced)] = UNSPACED
    for kind, signs in _SPECIAL_KINDS.items():
        table[[ord(sign) for sign in signs]] = kind
    table[ord("\n")] = ROW
    return table


@cache
def lower() -> npt.NDArray[np.uint16]:
    """Return every code point's lower case in sixteen bits; rare planes fold onto others, which words survive."""
    table = np.arange(POINTS, dtype=np.uint32)
    for point in ASSIGNED:
        small = chr(point).lower()
        if len(small) == 1:
            table[point] = ord(small)
    return np.asarray((table ^ (table >> 16) * 0x9E37).astype(np.uint16))


@cache
def facts() -> npt.NDArray[np.uint32]:
    """Return all three at once, so that a batch is looked up once: lower case below, then kind, then Latin letter."""
    packed = lower().astype(np.uint32)
    packed |= kinds().astype(np.uint32) << KIND_SHIFT
    packed |= latin_letters().astype(np.uint32) << LATIN_SHIFT
    return packed


@cache
def ascii_facts(shift: int) -> bytes:
    """Return one byte of the facts for each ASCII character, as `bytes.translate` takes it."""
    low = facts()[:128] >> shift & 0xFF
    return bytes(low.astype(np.uint8)) + bytes(128)


@cache
def latin_letters() -> npt.NDArray[np.uint8]:
    """Return 1 to 26 for letters whose base is a to z, whatever accent they carry; 0 for all others."""
    table = np.zeros(POINTS, dtype=np.uint8)
    for low, high in SCRIPTS["Latin"]:
        for point in range(low, high + 1):
            base = unicodedata.normalize("NFKD", chr(point))[0].lower()
            base = {"ø": "o", "ł": "l", "đ": "d", "ß": "s", "æ": "a", "œ": "o", "ı": "i", "ð": "d"}.get(base, base)
            if "a" <= base <= "z":
                table[point] = ord(base) - ord("a") + 1
    return table
