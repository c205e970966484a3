"""Rules of the peers by their own definitions, on our measures: what both are asked when they are compared."""

from collections.abc import Callable
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from filters.base import CaptionFilter, Mask
from filters.text.captions import Bits, Captions, earlier, remembered
from filters.text.code_points import POINTS

PHRASES = (
    "add to cart|click here|read more|skip to content|share on|sign in|log in|view larger image|main menu|"
    "all rights reserved|free shipping|buy now|learn more|next page|previous page|page not found"
)
"""Sixteen phrases, searched as they stand."""
SPECIAL, GAP = 1, 2


@cache
def _alphanumeric() -> Mask:
    return np.array([chr(point).isalnum() for point in range(POINTS)])


@cache
def marked(characters: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return a table of which code points are listed."""
    table = np.zeros(POINTS, dtype=bool)
    table[[ord(each) for each in characters]] = True
    table[ord("\n")] = False  # stands between captions
    return table


def alphanumeric(captions: Captions) -> Mask:
    """Return which code points of a batch Python calls letters or digits."""
    points = captions.points
    if points.dtype != np.uint8:
        return np.asarray(np.take(_alphanumeric(), points, mode="wrap"))
    # What is before the first of a range wraps round, and lies beyond its last.
    return np.asarray(((points | 0x20) - np.uint8(ord("a")) < 26) | (points - np.uint8(ord("0")) < 10))


@cache
def special_and_gap(characters: tuple[str, ...]) -> Callable[[Captions], tuple[Bits, Bits]]:
    """Return the measure of which code points are listed, and which are gaps; rules given one list share it."""
    table = marked(characters) * np.uint8(SPECIAL)
    table[[ord(" "), ord("\n")]] |= GAP

    def looked_up(captions: Captions) -> tuple[Bits, Bits]:
        if captions.points.dtype == np.uint8:
            facts = np.frombuffer(captions.points.tobytes().translate(bytes(table[:256])), dtype=np.uint8)
        else:
            facts = np.take(table, captions.points, mode="wrap")
        return captions.packed((facts & np.uint8(SPECIAL)).view(np.bool_)), captions.packed(facts >= GAP)

    return remembered(looked_up)


class TextLength(CaptionFilter):
    """Data-Juicer's text_length_filter."""

    reason: ClassVar[str] = "text_length"

    min_len: int
    max_len: int

    def passes(self, captions: Captions) -> Mask:
        return (captions.length >= self.min_len) & (captions.length <= self.max_len)


class Alphanumeric(CaptionFilter):
    """Data-Juicer's alphanumeric_filter: marks are none."""

    reason: ClassVar[str] = "alphanumeric"

    min_ratio: float

    def passes(self, captions: Captions) -> Mask:
        found = captions.count(alphanumeric(captions))
        return np.where(captions.length > 0, found / np.maximum(captions.length, 1), 0) >= self.min_ratio


class SpecialCharacters(CaptionFilter):
    """Data-Juicer's special_characters_filter: spaces and digits are special."""

    reason: ClassVar[str] = "special_characters"

    max_ratio: float
    characters: tuple[str, ...]

    def passes(self, captions: Captions) -> Mask:
        found = captions.count_bits(special_and_gap(self.characters)(captions)[0])
        return found / np.maximum(captions.length, 1) <= self.max_ratio


class WordsNum(CaptionFilter):
    """Data-Juicer's words_num_filter: pieces between spaces that are not special characters all through."""

    reason: ClassVar[str] = "words_num"

    min_num: int
    characters: tuple[str, ...]

    def passes(self, captions: Captions) -> Mask:
        special, gap = special_and_gap(self.characters)(captions)
        begins = ~gap & earlier(gap, 1)
        # What a piece begins with, as far as that is special; twice as far with every step.
        leading, special, step = begins & special, special & ~gap, 1
        run = special
        while step < 64 and run.any():
            leading |= run & earlier(leading, step)
            run, step = run & earlier(run, step), 2 * step
        while (more := special & earlier(leading, 1) & ~leading).any():  # longer than 64, which is rare
            leading |= more
        counted = (begins | earlier(leading, 1)) & ~special & ~gap
        return captions.count_bits(counted) >= self.min_num


class AverageLineLength(TextLength):
    """Data-Juicer's average_line_length_filter: a caption in normal form is one line."""

    reason: ClassVar[str] = "average_line_length"


class MaximumLineLength(TextLength):
    """Data-Juicer's maximum_line_length_filter, likewise."""

    reason: ClassVar[str] = "maximum_line_length"


class GopherLines(CaptionFilter):
    """The part of datatrove's GopherQualityFilter on lines: they begin with a bullet, or end on an ellipsis."""

    reason: ClassVar[str] = "gopher_lines"

    def passes(self, captions: Captions) -> Mask:
        first = captions.points[captions.starts + 1]
        bullet = (first == ord("•")) | (first == ord("-"))
        lasts = [captions.points[np.maximum(captions.last - back, 0)] for back in range(3)]
        dots = (lasts[0] == ord(".")) & (lasts[1] == ord(".")) & (lasts[2] == ord("."))
        return np.asarray(~(bullet | dots | (lasts[0] == ord("…"))))


class FineWeb(CaptionFilter):
    """datatrove's FineWebQualityFilter on one line: it ends on a stop and is longer than a short one."""

    reason: ClassVar[str] = "fineweb"

    short_line_length: int
    stop_characters: tuple[str, ...]

    def passes(self, captions: Captions) -> Mask:
        ended: Mask = np.take(marked(self.stop_characters), captions.points[captions.last], mode="wrap")
        return np.asarray(ended & (captions.length > self.short_line_length))


class Regex(CaptionFilter):
    """datatrove's RegexFilter."""

    reason: ClassVar[str] = "regex"

    regex: str

    def passes(self, captions: Captions) -> Mask:
        return ~np.asarray(pc.match_substring_regex(captions.text, self.regex), dtype=bool)


class C4(CaptionFilter):
    """The parts of datatrove's C4QualityFilter that judge a whole text: lorem ipsum, and an opening brace."""

    reason: ClassVar[str] = "c4"

    def passes(self, captions: Captions) -> Mask:
        found = pc.match_substring(captions.text, "lorem ipsum", ignore_case=True)
        return ~np.asarray(found, dtype=bool) & ~captions.having(captions.points == ord("{"))
