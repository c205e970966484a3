"""Captions in one form: entities resolved, NFKC, single spaces. Rows that are so already are left alone."""

import unicodedata
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 65_535
"""Code points that are measured; no policy keeps a caption as long."""

# What Python's `str.split` takes for white space and NFKC does not turn into a space.
_SPACES = r"[\x{09}-\x{0D}\x{1C}-\x{20}\x{85}\x{1680}\x{2028}\x{2029}]+"

# What pages leave in alt-text, in the order of replacement: what stands for "&" comes last.
ENTITIES = {
    "&quot;": '"', "&#34;": '"', "&apos;": "'", "&#39;": "'", "&#039;": "'", "&nbsp;": " ", "&#160;": " ",
    "&lt;": "<",
    "&gt;": ">", "&#8211;": "–", "&ndash;": "–", "&#8212;": "—", "&mdash;": "—", "&#8216;": "‘", "&lsquo;": "‘",
    "&#8217;": "’", "&rsquo;": "’", "&#8220;": "“", "&ldquo;": "“", "&#8221;": "”", "&rdquo;": "”", "&#8230;": "…",
    "&hellip;": "…", "&amp;": "&", "&#38;": "&", "&#038;": "&",
}  # fmt: skip


def normalise(captions: pa.Array) -> pa.StringArray:
    """Return captions without entities, in NFKC, white space collapsed and trimmed; null becomes the empty caption.

    Args:
        captions: Strings, shape (samples,).
    """
    text = captions if captions.type == pa.string() else captions.cast(pa.string())
    if text.null_count:
        text = pc.fill_null(text, "")
    touched = _untidy(text) | _with_entities(text) | ~_ascii(text) | (_sizes(text) > LONGEST)
    if not touched.any():
        return text
    return _where(touched, text, _changed)


def _changed(text: pa.StringArray) -> pa.StringArray:
    text = _where(_with_entities(text), text, _resolved)
    changing, spaced = _beyond_ascii(text)
    text = _where(changing, text, lambda some: pc.utf8_normalize(some, form="NFKC"))
    text = _where(_untidy(text) | spaced, text, _collapsed)
    return _where(_sizes(text) > LONGEST, text, lambda some: pc.utf8_slice_codeunits(some, 0, LONGEST))


def _resolved(text: pa.StringArray) -> pa.StringArray:
    data, begins = bytes_of(text)
    there = data[begins[0] : begins[-1]].tobytes()
    for entity, sign in ENTITIES.items():
        # Most entities are in no caption; "&amp;" may uncover none that was looked for before.
        if entity.encode() in there:
            text = pc.replace_substring(text, entity, sign)
    return text


def _collapsed(text: pa.StringArray) -> pa.StringArray:
    return pc.utf8_trim(pc.replace_substring_regex(text, _SPACES, " "), characters=" ")


def _where(
    rows: npt.NDArray[np.bool_], text: pa.StringArray, change: Callable[[pa.StringArray], pa.StringArray]
) -> pa.StringArray:
    """Return the captions with some of them changed."""
    if not rows.any():
        return text
    if rows.all():
        return change(text)
    mask = pa.array(rows)
    some = text.filter(mask)
    changed = change(some)
    return text if changed.equals(some) else pc.replace_with_mask(text, mask, changed)


def bytes_of(text: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return an array's UTF-8 bytes and where each caption begins, shapes (bytes,) and (samples + 1,)."""
    _, offsets, data = text.buffers()
    begins = np.frombuffer(offsets, dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, dtype=np.uint8) if data else np.zeros(0, dtype=np.uint8), begins


def is_plain(text: pa.StringArray) -> bool:
    """Return whether all captions are ASCII."""
    if not len(text):
        return True
    data, begins = bytes_of(text)
    inside = data[begins[0] : begins[-1]]
    return not len(inside) or int(inside.max()) < 0x80


# Where the semicolon of an entity stands, counted from its ampersand.
_ENDS = sorted({len(entity) - 1 for entity in ENTITIES})


def _with_entities(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return which captions may hold an entity: nearly all ampersands have no semicolon behind them."""
    found = np.zeros(len(text), dtype=bool)
    if not len(text):
        return found
    data, begins = bytes_of(text)
    hits = np.flatnonzero(data[begins[0] : begins[-1]] == ord("&")) + begins[0]
    if len(hits):
        # What follows the last caption is not looked at; a semicolon of the next caption does no harm.
        ended = [data[np.minimum(hits + step, begins[-1] - 1)] == ord(";") for step in _ENDS]
        found[np.searchsorted(begins, hits[np.logical_or.reduce(ended)], side="right") - 1] = True
    return found


def _untidy(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return where ASCII white space has to go."""
    found = np.zeros(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if len(text) == 0 or begins[0] == begins[-1]:
        return found
    inside = data[begins[0] : begins[-1]]
    blank = inside <= 32
    hits = np.flatnonzero(inside < 32)
    doubled = np.flatnonzero(blank[1:] & blank[:-1])
    rows = np.searchsorted(begins, np.concatenate([hits, doubled]) + begins[0], side="right") - 1
    found[rows] = True
    filled = begins[1:] > begins[:-1]
    found[filled] |= blank[begins[:-1][filled] - begins[0]] | blank[begins[1:][filled] - begins[0] - 1]
    return found


# What Python's `str.split` takes for white space beyond ASCII and NFKC leaves as it is.
_RARE_SPACES = (0x85, 0x1680, 0x2028, 0x2029)


@cache
def _settled() -> npt.NDArray[np.bool_]:
    """Return which code points NFKC leaves alone, whatever stands beside them."""
    table = np.zeros(0x110000, dtype=bool)
    for point in range(0x10000):
        letter = chr(point)
        is_mark = unicodedata.category(letter)[0] == "M"
        table[point] = not is_mark and unicodedata.is_normalized("NFKC", letter)
    table[0x1160:0x1200] = False  # parts of Korean syllables, which grow together
    return table


def _beyond_ascii(text: pa.StringArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which captions NFKC may change, and which hold white space that it leaves as it is."""
    changing, spaced = np.zeros(len(text), dtype=bool), np.zeros(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if not len(text):
        return changing, spaced
    places = np.flatnonzero(data[begins[0] : begins[-1]] >= 0xC0) + begins[0]
    first = data[places].astype(np.int64)
    second = data[places + 1] & np.uint8(0x3F)
    # A sequence of two bytes may be the very last; its third byte is not looked at.
    third = data[np.minimum(places + 2, len(data) - 1)] & np.uint8(0x3F)
    points = np.where(
        first < 0xE0, (first & 0x1F) << 6 | second, (first & 0xF) << 12 | second.astype(np.int64) << 6 | third
    )
    rows = np.searchsorted(begins, places, side="right") - 1
    changing[rows[(first >= 0xF0) | ~_settled()[points]]] = True
    spaced[rows[np.isin(points, _RARE_SPACES)]] = True
    return changing, spaced


def _ascii(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    if is_plain(text):
        return np.ones(len(text), dtype=bool)
    return np.asarray(pc.string_is_ascii(text).to_numpy(zero_copy_only=False), dtype=bool)


def _sizes(text: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return bytes of each caption."""
    return np.diff(bytes_of(text)[1])
