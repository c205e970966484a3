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
    "&quot;": '"', "&#34;": '"', "&apos;": "'", "&#39;": "'", "&#039;": "'", "&nbsp;": " ", "&#160;": " ", "&lt;": "<",
    "&gt;": ">", "&#8211;": "–", "&ndash;": "–", "&#8212;": "—", "&mdash;": "—", "&#8216;": "‘", "&lsquo;": "‘",
    "&#8217;": "’", "&rsquo;": "’", "&#8220;": "“", "&ldquo;": "“", "&#8221;": "”", "&rdquo;": "”", "&#8230;": "…",
    "&hellip;": "…", "&amp;": "&", "&#38;": "&", "&#038;": "&",
}  # fmt: skip


def normalise(captions: pa.Array) -> pa.StringArray:
    """Return captions without entities, in NFKC, white space collapsed and trimmed; null becomes the empty caption.

    Args:
        captions: Strings, shape (samples,).
    """
    text = pc.fill_null(captions.cast(pa.string()), "")
    text = _changed(text, _having(text, ord("&")), _resolve)
    text = _changed(text, ~_ascii(text), lambda some: pc.utf8_normalize(some, form="NFKC"))
    text = _changed(text, _untidy(text), lambda some: pc.utf8_trim(_collapse(some), characters=" "))
    long = _numbers(pc.binary_length(text)) > LONGEST
    return _changed(text, long, lambda some: pc.utf8_slice_codeunits(some, 0, LONGEST))


def bytes_of(text: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return an array's UTF-8 bytes and where each caption begins, shapes (bytes,) and (samples + 1,)."""
    _, offsets, data = text.buffers()
    begins = np.frombuffer(offsets, dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, dtype=np.uint8) if data else np.zeros(0, dtype=np.uint8), begins


def _collapse(text: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(text, _SPACES, " ")


def _resolve(text: pa.StringArray) -> pa.StringArray:
    for entity, sign in ENTITIES.items():
        text = pc.replace_substring(text, entity, sign)
    return text


def _having(text: pa.StringArray, byte: int) -> npt.NDArray[np.bool_]:
    """Return which captions hold a byte; for a rare one."""
    found = np.zeros(len(text), dtype=bool)
    data, begins = bytes_of(text)
    if len(text):
        hits = np.flatnonzero(data[begins[0] : begins[-1]] == byte) + begins[0]
        found[np.searchsorted(begins, hits, side="right") - 1] = True
    return found


def _changed(
    text: pa.StringArray, where: npt.NDArray[np.bool_], change: Callable[[pa.StringArray], pa.StringArray]
) -> pa.StringArray:
    """Return the captions with some of them changed; nothing is copied where none is."""
    if not where.any():
        return text
    mask = pa.array(where)
    return pc.replace_with_mask(text, mask, change(text.filter(mask)))


def _untidy(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return where white space may have to go: beyond ASCII always, else by its bytes."""
    found = ~_ascii(text)
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


def _ascii(text: pa.StringArray) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.string_is_ascii(text).to_numpy(zero_copy_only=False), dtype=bool)


def _numbers(values: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)
