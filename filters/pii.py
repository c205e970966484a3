"""Drop captions that hold personal data."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import CaptionFilter, Examples, Mask
from filters.text.captions import Captions
from filters.text.characters import digits

_MAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+\.[A-Za-z]{2,}"
_ADDRESS = r"(?:^|[^0-9.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?:$|[^0-9.])"
_PHONE = r"(?:^|[^0-9])(?:\+|00)\d{1,3}[ ./()-]{0,2}(?:\d[ ./()-]{0,2}){7,12}(?:$|[^0-9])|\(\d{3}\) ?\d{3}-\d{4}"
_CARD = r"(?:^|[^0-9])(?P<card>\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,4})(?:$|[^0-9])"


class PersonalData(CaptionFilter):
    """Keep captions without mail addresses, phone numbers, numbers of cards and of machines in the net.

    A flag: in no policy of ours. Card numbers must pass their check digit, so that part numbers are kept.
    """

    reason: ClassVar[str] = "pii"
    origin: ClassVar[str] = "ours; datatrove masks mail and net addresses"
    examples: ClassVar[Examples] = Examples(
        (
            "Write to jane.doe@example.org for a print",
            "Call +49 30 1234 5678 for the room",
            "card 4111 1111 1111 1111 on a table",
            "server at 192.168.10.254 in a rack",
            "Телефон: +7 495 123-45-67",
        ),
        (
            "card 4111 1111 1111 1112 on a table",
            "part 1234-5678 of an engine",
            "version 1.2.3 of a program",
            "三只猫 2021 年",
            "Er kam 1967 um 10 Uhr 30",
            None,
        ),
    )

    def passes(self, captions: Captions) -> Mask:
        """Keep what holds none of them."""
        many = digits(captions) >= 4
        found = captions.matches(_MAIL, captions.having(captions.points == ord("@")))
        found |= captions.matches(f"{_ADDRESS}|{_PHONE}", many)
        return ~(found | _cards(captions, digits(captions) >= 13))


def _cards(captions: Captions, among: Mask) -> Mask:
    """Return which captions hold a number of 13 to 16 digits that passes the check of Luhn."""
    found = captions.matches(_CARD, among)
    rows = np.flatnonzero(found)
    if not len(rows):
        return found
    numbers = pc.struct_field(pc.extract_regex(captions.text.take(pa.array(rows)), _CARD), "card")
    digits16 = pc.utf8_lpad(pc.replace_substring_regex(numbers, "[ -]", ""), 16, "0")
    values = np.frombuffer("".join(digits16.to_pylist()).encode(), dtype=np.uint8).reshape(-1, 16) - ord("0")
    doubled = values[:, ::2].astype(np.int64) * 2
    sums = (doubled - 9 * (doubled > 9)).sum(axis=1) + values[:, 1::2].sum(axis=1)
    found[rows] = sums % 10 == 0
    return found
