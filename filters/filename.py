"""Drop captions that are the name of a file."""

from typing import ClassVar

import numpy as np

from filters.base import CaptionFilter, Examples, Mask
from filters.text.captions import Captions
from filters.text.characters import digits, spaces
from filters.text.lexicon import Role, with_role
from filters.text.words import words_of

_EXTENSION = r"(?i)\S\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic)$"
_CAMERA = (
    r"(?i)^(?:img|dsc[nf]?|dji|pxl|mvimg|p|vid|gopr|screen ?shot|image|photo|untitled|wp|whatsapp image)[ _-]?\d{3,}"
)
_JOINED = r"[_-][^_-]*[_-][^_-]*[_-]"


class Filename(CaptionFilter):
    """Keep captions that do not end on an image's extension, no camera numbered, and that have spaces."""

    reason: ClassVar[str] = "filename"
    origin: ClassVar[str] = "ours: three joints without one space make the name of a file or the end of an address"
    examples: ClassVar[Examples] = Examples(
        (
            "DSC0123.jpg",
            "IMG_20210304",
            "tone-up-power-moves-mind-body",
            "my holiday in rome.JPEG",
            "Screenshot 20210304",
            "foto_von_unserem_haus",
        ),
        (
            "how to open a jpg",
            "a well-known mother-in-law",
            "Photo 12 of the old bridge",
            "двое детей играют в снегу",
            "image of a dog",
            None,
        ),
    )

    def passes(self, captions: Captions) -> Mask:
        """Keep what is no name of a file."""
        ends = [captions.points[np.maximum(captions.last - back, 0)] == ord(".") for back in (3, 4)]
        named = captions.matches(_EXTENSION, ends[0] | ends[1])
        words = words_of(captions)
        cameras = with_role(captions, Role.CAMERA)
        numbered = np.zeros(len(captions), dtype=bool)
        numbered[words.rows[cameras[cameras == words.firsts[words.rows[cameras]]]]] = True
        numbered &= digits(captions) >= 3
        joined = captions.matches(_JOINED, (spaces(captions) == 0) & (captions.length > 3))
        return np.asarray(~(named | joined | captions.matches(_CAMERA, numbered)))
