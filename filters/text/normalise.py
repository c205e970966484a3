"""Captions in one form: entities resolved, NFKC, single spaces. Rows that are so already are left alone."""

from collections.abc import Callable

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
    touched = _untidy(text) | _having(text, ord("&")) | ~_ascii(text) | (_sizes(text) > LONGEST)
    if not touched.any():
        return text
    return _where(touched, text, _changed)


def _changed(text: pa.StringArray) -> pa.StringArray:
    text = _where(_having(text, ord("&")), text, _resolved)
    text = _where(~_settled(text), text, lambda some: pc.utf8_normalize(some, form="NFKC"))
    text = _where(_untidy(text) | _rarely_spaced(text), text, _collapsed)
    return pc.utf8_slice_codeunits(text, 0, LONGEST)


def _resolved(text: pa.StringArray) -> pa.StringArray:
    for entity, sign in ENTITIES.items():
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
    mask = pa.array(rows)
    return pc.replace_with_mask(text, mask, change(text.filter(mask)))


def bytes_of(text: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return an array's UTF-8 bytes and where each caption begins, shapes (bytes,) and (samples + 1,)."""
    _, offsets, data = text.buffers()
    begins = np.frombuffer(offsets, dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, dtype=np.uint8) if data else np.zeros(0, dtype=np.uint8), begins


def _having(text: pa.StringArray, byte: int) -> npt.NDArray[np.bool_]:
    """Return which captions hold a byte; for a rare one."""
    found = np.zeros(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if len(text):
        hits = np.flatnonzero(data[begins[0] : begins[-1]] == byte) + begins[0]
        found[np.searchsorted(begins, hits, side="right") - 1] = True
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


# First bytes of code points that NFKC leaves alone, whatever stands beside them: ASCII, Latin-1 letters,
# most Cyrillic, Han but for the compatibility blocks, most of Hangul; and what follows a first byte.
_SETTLED = bytes(
    byte < 0xC0 or byte in (0xC3, 0xD0, 0xD1, 0xE2, 0xEB, 0xEC) or 0xE4 <= byte <= 0xE9 for byte in range(256)
)
# Third bytes of quotes and dashes, of all that begins with E2 80.
_QUOTES = (0x93, 0x94, 0x98, 0x99, 0x9C, 0x9D)


def _settled(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return which captions NFKC surely leaves as they are, by their bytes."""
    found = np.ones(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if len(text):
        inside = data[begins[0] : begins[-1]]
        unsettled = np.flatnonzero(~np.frombuffer(inside.tobytes().translate(_SETTLED), dtype=bool))
        signs = np.flatnonzero(inside == 0xE2)
        quotes = (inside[signs + 1] == 0x80) & np.isin(inside[signs + 2], _QUOTES)
        where = np.concatenate([unsettled, signs[~quotes]]) + begins[0]
        found[np.searchsorted(begins, where, side="right") - 1] = False
    return found


def _rarely_spaced(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return which captions hold white space beyond ASCII that NFKC leaves: U+0085, U+1680, U+2028, U+2029."""
    found = np.zeros(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if len(data) > 2:
        one, two, three = data[:-2], data[1:-1], data[2:]
        hits = (one == 0xE1) & (two == 0x9A) & (three == 0x80)
        hits |= (one == 0xE2) & (two == 0x80) & ((three == 0xA8) | (three == 0xA9))
        where = np.concatenate([np.flatnonzero(hits), np.flatnonzero((data[:-1] == 0xC2) & (data[1:] == 0x85))])
        where = where[(where >= begins[0]) & (where < begins[-1])]
        found[np.searchsorted(begins, where, side="right") - 1] = True
    return found


def _ascii(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.string_is_ascii(text).to_numpy(zero_copy_only=False), dtype=bool)


def _sizes(text: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return bytes of each caption."""
    return np.diff(bytes_of(text)[1])
