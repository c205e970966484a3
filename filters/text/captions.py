"""One batch of captions, laid out as one row of code points; measured lazily, each measure once."""

from collections.abc import Callable, Mapping
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.text import code_points
from filters.text.normalise import bytes_of, is_plain, normalise

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint64]
"""Marks of code points, 64 to a number, the first lowest."""
Result = TypeVar("Result")
Given = ParamSpec("Given")

# Line feeds at the very end, which let four code points be read at once there.
_PADDING = 8
# Where one of so many numbers has a mark, looking those up costs less than counting all.
_SPARSE = 16


class Captions:
    """Captions in normal form, and what is known about their code points.

    In `points` a line feed, which no normalised caption holds, stands before every caption. So what is
    compared with its neighbour never meets another caption, and no caption is an empty segment.
    """

    def __init__(self, captions: pa.Array) -> None:
        """Take a batch; nothing is computed yet."""
        if isinstance(captions, pa.ChunkedArray):
            captions = captions.combine_chunks()
        self.given = captions
        self.memory: dict[tuple[Any, ...], Any] = {}

    def __len__(self) -> int:
        """Return how many captions there are."""
        return len(self.given)

    @cached_property
    def text(self) -> pa.StringArray:
        """Captions in normal form; null is the empty caption."""
        return normalise(self.given)

    @cached_property
    def points(self) -> npt.NDArray[np.unsignedinteger]:
        """Code points of all captions, a line feed before each and a few after the last.

        Where all captions are ASCII, which most are, their bytes are their code points.
        """
        joined = np.zeros(0, dtype=np.uint8)
        if len(self):
            whole = pa.ListArray.from_arrays(pa.array([0, len(self)], pa.int32()), self.text)
            joined = np.frombuffer(pc.binary_join(whole, "\n")[0].as_buffer(), dtype=np.uint8)
        rows = np.full(1 + len(joined) + _PADDING, ord("\n"), dtype=np.uint8)
        rows[1 : 1 + len(joined)] = joined
        return rows if self._plain else np.frombuffer(rows.tobytes().decode().encode("utf-32-le"), dtype=np.uint32)

    @cached_property
    def _plain(self) -> bool:
        """Whether all captions are ASCII, so that their bytes are their code points."""
        return is_plain(self.text)

    @cached_property
    def length(self) -> Ints:
        """Code points of each caption, shape (samples,)."""
        if self._plain:
            return np.diff(bytes_of(self.text)[1]).astype(np.int64)
        return np.asarray(pc.utf8_length(self.text).to_numpy(zero_copy_only=False), dtype=np.int64)

    @cached_property
    def starts(self) -> Ints:
        """Where the line feed before each caption stands in `points`, shape (samples,)."""
        ends = np.cumsum(self.length + 1)
        return np.asarray(ends - self.length - 1)

    @cached_property
    def last(self) -> Ints:
        """Where each caption's last code point stands; the line feed before it where it is empty."""
        return np.asarray(self.starts + self.length)

    @cached_property
    def _facts(self) -> npt.NDArray[np.uint8]:
        """What is known of every code point, byte by byte, shape (code points, 4)."""
        return np.take(code_points.facts(), self.points, mode="wrap").view(np.uint8).reshape(-1, 4)

    def _looked_up(self, shift: int) -> npt.NDArray[np.uint8]:
        if self.points.dtype == np.uint8:
            return np.frombuffer(self.points.tobytes().translate(code_points.ascii_facts(shift)), dtype=np.uint8)
        return np.ascontiguousarray(self._facts[:, shift // 8])

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """The kind of every code point, as `code_points` numbers them."""
        return self._looked_up(code_points.KIND_SHIFT)

    @cached_property
    def latin(self) -> npt.NDArray[np.uint8]:
        """1 to 26 for each Latin letter, accents taken off; 0 for all other code points."""
        if self.points.dtype == np.uint8:
            found = (self.points & 0xDF) - np.uint8(64)  # A and a are 1; what is before them wraps round
            return np.asarray(found * (found <= 26))
        return self._looked_up(code_points.LATIN_SHIFT)

    @cached_property
    def lower(self) -> npt.NDArray[np.uint16]:
        """Every code point in lower case, in sixteen bits."""
        if self.points.dtype == np.uint8:
            lower = self.points | (self.kinds == code_points.UPPER) * np.uint8(32)
            return np.asarray(lower, dtype=np.uint16)
        return np.ascontiguousarray(self._facts.view(np.uint16)[:, 0])

    @cached_property
    def _bounds(self) -> tuple[Ints, npt.NDArray[np.uint64]]:
        """Which 64 bits each caption begins in, and a mask of the bits before it; the end is one more."""
        bounds = np.append(self.starts, self.end)
        return bounds >> 6, (np.uint64(1) << (bounds & 63).astype(np.uint64)) - np.uint64(1)

    def packed(self, where: Bools) -> Bits:
        """Return marks of code points as bits, 64 to a number and zeros behind; marks may stop before the end."""
        bits = np.zeros((len(self.points) >> 6) + 1, dtype=np.uint64)
        some = np.packbits(where, bitorder="little")
        bits.view(np.uint8)[: len(some)] = some
        return bits

    def count_bits(self, bits: Bits) -> Ints:
        """Return how many marked code points each caption has, shape (samples,)."""
        # As many as stand before its end and not before its begin.
        words, before = self._bounds
        sums = np.zeros(len(bits) + 1, dtype=np.int32)  # a batch has fewer than 2**31 code points
        np.cumsum(np.bitwise_count(bits), dtype=np.int32, out=sums[1:])
        until = np.take(sums, words, mode="clip")
        until += np.bitwise_count(np.take(bits, words, mode="clip") & before)
        found: Ints = np.diff(until).astype(np.int64)
        return found

    def count(self, where: Bools) -> Ints:
        """Return how many marked code points each caption has, shape (samples,); marks may stop before the end."""
        return self.count_bits(self.packed(where))

    def rows_of(self, positions: npt.NDArray[Any]) -> Ints:
        """Return which caption each position lies in; for few positions."""
        return np.asarray(np.searchsorted(self.starts, positions, side="right") - 1, dtype=np.int64)

    def spread(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return positions of all code points of some captions, and where each caption begins among them."""
        sizes = self.length[rows] + 1
        begins = np.cumsum(sizes) - sizes
        return np.repeat(self.starts[rows] - begins, sizes) + np.arange(sizes.sum()), begins

    def having_bits(self, bits: Bits) -> Bools:
        """Return which captions have a marked code point."""
        some = np.flatnonzero(bits)
        if len(some) > len(bits) // _SPARSE:
            return self.count_bits(bits) > 0
        found = np.zeros(len(self), dtype=bool)
        if len(some):
            inside = np.unpackbits(bits[some].view(np.uint8), bitorder="little").reshape(-1, 64)
            places, offsets = np.nonzero(inside)
            found[self.rows_of(some[places] * 64 + offsets)] = True
        return found

    def having(self, where: Bools) -> Bools:
        """Return which captions have a marked code point."""
        return self.having_bits(self.packed(where))

    @cached_property
    def end(self) -> int:
        """Where the padding begins."""
        return int(self.last[-1]) + 1 if len(self) else 0

    def matches(self, pattern: str, among: Bools) -> Bools:
        """Return where an RE2 pattern is found; only captions `among` are searched."""
        found = np.zeros(len(self), dtype=bool)
        rows = np.flatnonzero(among)
        if len(rows):
            some = self.text.take(pa.array(rows))
            found[rows] = pc.match_substring_regex(some, pattern).to_numpy(zero_copy_only=False)
        return found


def later(bits: Bits, step: int) -> Bits:
    """Return bits whose place i holds what place i + step held; `step` is 1 to 63."""
    found = bits >> np.uint64(step)
    found[:-1] |= bits[1:] << np.uint64(64 - step)
    return found


def earlier(bits: Bits, step: int) -> Bits:
    """Return bits whose place i holds what place i - step held; `step` is 1 to 63."""
    found = bits << np.uint64(step)
    found[1:] |= bits[:-1] >> np.uint64(64 - step)
    return found


def remembered(
    measure: Callable[Concatenate[Captions, Given], Result],
) -> Callable[Concatenate[Captions, Given], Result]:
    """Make a measure of captions be computed once per batch and setting, whoever asks; settings are positional."""

    @wraps(measure)
    def once(captions: Captions, /, *given: Given.args, **named: Given.kwargs) -> Result:
        key = (measure, *given)
        if key not in captions.memory:
            captions.memory[key] = measure(captions, *given, **named)
        found: Result = captions.memory[key]
        return found

    return once


class Batch(dict[str, Any]):
    """Columns of a batch whose caption facts are shared by all filters."""

    def __init__(self, columns: Mapping[str, Any], size: int) -> None:
        """Take columns of `size` rows each; there may be none."""
        super().__init__(columns)
        self.size = size

    @cached_property
    def captions(self) -> Captions:
        """The caption column, measured once."""
        return Captions(self["caption"])


def captions_of(columns: Mapping[str, Any]) -> Captions:
    """Return the caption facts of a batch: shared where it is a `Batch`, computed anew where not."""
    return columns.captions if isinstance(columns, Batch) else Captions(columns["caption"])
