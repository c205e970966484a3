"""Drop captions that hold an address."""

from typing import ClassVar

import numpy as np

from filters.base import CaptionFilter, Examples, Mask
from filters.text.captions import Captions

_URL = (
    r"https?://|(?:^|[\s(])[Ww][Ww][Ww]\.|[A-Za-z0-9]\.(?:com|net|org|info|biz|ru|cn|de|fr|it|es|nl|pl|jp|br|uk|eu|co|io|tv)"
    r"(?:$|[/\s,;:)!?\"'|]|\.(?:$|[^a-z]))"
)
# Endings in small letters only: "A dot.It begins" is no address.
_MAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+\.[A-Za-z]{2,}"


class UrlEmail(CaptionFilter):
    """Keep captions without web and mail addresses: those name a site, not what is seen."""

    reason: ClassVar[str] = "url_email"
    origin: ClassVar[str] = (
        "ours; Google's rules for CC3M drop captions with marks of search engines, CC12M masks names"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "A cat on a sofa | www.example.com",
            "Write to info@example.org for more",
            "https://example.com/a/b",
            "Фото с сайта example.ru",
            "Hotels bei example.de",
        ),
        (
            "A dot.It begins a sentence",
            "Dr. Smith and Mr. Jones at St. Paul's",
            "version 2.0 of a phone",
            "三只猫在沙发上",
            "Er kam um 10.30 Uhr",
            None,
        ),
    )

    def passes(self, captions: Captions) -> Mask:
        """Keep what no address is found in."""
        return ~captions.matches(f"{_URL}|{_MAIL}", addressed(captions))


def addressed(captions: Captions) -> Mask:
    """Return which captions may hold an address: an at sign, or a dot or slash between what belongs together."""
    points = captions.points
    places = np.flatnonzero((points == ord("@")) | (points == ord(".")) | (points == ord("/")))
    sign, before, after = points[places], points[places - 1], points[places + 1]
    # Endings are in small letters: "U.S. Army" is not looked at any closer.
    small = (after >= ord("a")) & (after <= ord("z"))
    told = (sign == ord("@")) | ((sign == ord(".")) & small) | ((sign == ord("/")) & (before == ord("/")))
    found = np.zeros(len(captions), dtype=bool)
    found[captions.rows_of(places[told])] = True
    return found
