"""Drop captions that no language explains."""

from typing import ClassVar

import numpy as np

from filters.base import Columns, Filter, Mask
from filters.text import matches

# Words of spaced Latin text seldom run over five consonants; six catches German compounds' worst.
_CONSONANTS = r"(?i)(?:^|[^\p{L}])[bcdfghjklmnpqrstvwxz]{6,}(?:$|[^\p{L}])|[bcdfghjklmnpqrstvwxz]{8,}"
_HEX = r"(?i)(?:^|[^0-9a-z])[0-9a-f]*\d[0-9a-f]{11,}(?:$|[^0-9a-z])"
_BASE64 = r"[A-Za-z0-9+/]{40,}={0,2}"
_MOJIBAKE = r"Ã[\x{80}-\x{BF}¼¶¤Ÿ©¨]|â€|Ð[\x{80}-\x{BF}]Ñ|ï»¿|\x{FFFD}"


class Gibberish(Filter):
    """Keep captions without letter noise, long hexadecimal or base64 tokens, or text decoded wrongly."""

    reason: ClassVar[str] = "gibberish"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    def keep(self, columns: Columns) -> Mask:
        """Keep what shows no sign of noise."""
        noise = matches(columns["caption"], "|".join((_CONSONANTS, _HEX, _BASE64)))
        return np.asarray(~noise & ~matches(columns["caption"], _MOJIBAKE))
