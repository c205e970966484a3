"""Foreign values into ours: what is not known, or cannot be read, becomes null and never a default."""

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bools = npt.NDArray[np.bool_]
_HEX = {"md5": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.binary()) if pa.types.is_null(column.type) else column


def text(column: pa.Array) -> tuple[pa.Array, Bools]:
    """Return a column as strings, null where bytes are no UTF-8, and which rows those are.

    Neither Arrow nor parquet promises that a string column holds UTF-8; a lone surrogate is none.
    """
    column = _plain(column)
    try:
        # From bytes to strings is the cast that checks.
        return column.cast(pa.binary()).cast(pa.string()), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        pass
    wrong, values = np.zeros(len(column), bool), column.cast(pa.large_binary()).to_pylist()
    for at, value in enumerate(values):
        try:
            values[at] = None if value is None else value.decode()
        except UnicodeDecodeError:
            values[at], wrong[at] = None, True
    return pa.array(values, pa.string()), wrong


def known_text(column: pa.Array, unknown: tuple[str, ...]) -> pa.Array:
    """Return a column as strings without blanks around; null where it is empty or says that nothing is known."""
    trimmed = pc.utf8_trim_whitespace(text(column)[0])
    return pc.if_else(pc.is_in(trimmed, pa.array(["", *unknown])), pa.scalar(None, pa.string()), trimmed)


def _numbers(column: pa.Array) -> tuple[npt.NDArray[np.float64], int]:
    """Return a column as float64, NaN where there is no number, and how many values could not be read."""
    column = _plain(column)
    if not (pa.types.is_binary(column.type) or pa.types.is_string(column.type)):
        # Whole numbers beyond 2**53 are rounded: as a length they are out of range, as a score close enough.
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), 0
    strings = known_text(column, ("nan", "NaN", "null", "None"))
    try:
        return strings.cast(pa.float64()).to_numpy(zero_copy_only=False), 0
    except pa.ArrowInvalid:
        pass
    found, unread = np.full(len(strings), np.nan), 0
    for at, value in enumerate(strings.to_pylist()):
        try:
            found[at] = np.nan if value is None else float(value)
        except ValueError:
            unread += 1
    return found, unread


def floats(column: pa.Array, not_known: tuple[float, ...] = ()) -> tuple[pa.Array, int]:
    """Return a score column as float32; NaN, infinity and the source's own marks for "not known" become null."""
    found, unread = _numbers(column)
    return pa.array(found.astype(np.float32), mask=~np.isfinite(found) | np.isin(found, not_known)), unread


def whole(column: pa.Array) -> tuple[pa.Array, int]:
    """Return a column of pixels as int32; what is no length above zero becomes null."""
    found, unread = _numbers(column)
    with np.errstate(invalid="ignore"):
        good = (found > 0) & (found < 2**31)
    return pa.array(np.where(good, found, 0).astype(np.int32), mask=~good), unread


def hashes(column: pa.Array, kind: str) -> tuple[pa.Array, int]:
    """Return hexadecimal hashes as `kind:hex`; anything else cannot be read and becomes null."""
    values = pc.utf8_lower(known_text(column, ())).to_pylist()
    good = [value is not None and bool(_HEX[kind].fullmatch(value)) for value in values]
    unread = sum(not fits and value is not None for value, fits in zip(values, good, strict=True))
    found = [f"{kind}:{value}" if fits else None for value, fits in zip(values, good, strict=True)]
    return pa.array(found, pa.string()), unread
