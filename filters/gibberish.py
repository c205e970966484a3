"""Drop captions that no language explains."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, remembered
from filters.text.characters import digits, foreign, has_run, letters
from filters.text.code_points import DIGIT
from filters.text.letter_pairs import latin_letters, likelihood, unspeakable

# Nine consonants in a row are hardly a word of any language; German "Angstschweiß" has eight.
_CONSONANTS = 9
# Digits and letters a to f in turns: digits alone are numbers of articles and books.
_HEX = "(?i)(?:^|[^0-9a-z])(?:{})(?:$|[^0-9a-z])".format(
    "|".join(rf"[0-9a-f]{{{before}}}(?:\d[a-f]|[a-f]\d)[0-9a-f]{{{10 - before},}}" for before in range(11))
)
# Forty characters with a digit between letters of both cases: long words and paths have none.
_BASE64 = r"(?:^|[^A-Za-z0-9+/])[A-Za-z0-9+/]*(?:[a-z]\d[A-Z]|[A-Z]\d[a-z]|[a-z]\d+[a-z]+[A-Z])[A-Za-z0-9+/]*={0,2}"
# Text that was UTF-8 and was read as Latin-1 or Windows-1252.
_MOJIBAKE = r"Ã[\x{80}-\x{BF}¼¶¤Ÿ©¨³¡ª§]|â€|Ð[\x{80}-\x{BF}]Ñ|ï»¿|\x{FFFD}"
_MOJIBAKE_SIGNS = np.array([ord(sign) for sign in "ÃâÐï\ufffd"], dtype=np.uint32)


class Gibberish(CaptionFilter):
    """Keep captions without letter noise, long hexadecimal or base64 tokens, or text decoded wrongly.

    Noise is judged by pairs of letters, over Latin letters only: `likelihood` is the mean logarithm per
    pair under what real captions of 17 languages teach. Product codes lie between; a caption must be mostly
    noise to fall below the threshold.
    """

    reason: ClassVar[str] = "gibberish"
    unit: ClassVar[str] = "log per letter pair"
    threshold: ClassVar[str] = "min_likelihood"
    stops: ClassVar[tuple[float, ...]] = (-6, -5.5, -5, -4.6, -4.4, -4.2, -4, -3.8, -3.6, -3.4, -3.2, -3)
    origin: ClassVar[str] = (
        "ours: of 151,408 distinct captions of web pages with sixteen Latin letters and more, labelled ones left "
        "out, four lie lower, and all four are noise; Data-Juicer's perplexity needs a language model per language"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "xkqzvbn wrtplkj zzxcvbn a picture of",
            "Ã¼berall sind schÃ¶ne Bilder",
            "id 3fa94c1d09b2e7745a of the",
            "qwrtz pldkfj xcvmn wqpzx jkhgf vbnmq",
            "sent as aGVsbG8gd29ybGQgYW5kIGFsbCB3aG8gbGl2ZSBpbiBpdA of late",
        ),
        (
            "Rindfleischetikettierungsüberwachungsaufgabe steht auf dem Schild über der Tür.",
            "An old man is sitting on a bench in the park with his dog.",
            "Angstschweiß auf der Stirn eines alten Mannes",
            "9780948135538: The Tale of Mrs. William Heelis",
            "What do you mean, aaaahhhhhhhhhhhh, noooo, yessssssssssss?",
            "Pneumonoultramicroscopicsilicovolcanoconiosis is a disease of the lungs",
            "São Paulo: a cidade não para, diz ÃO em maiúsculas",
            "图片里有三个黄色的十字在一个蓝色的圆环的右边。",
            None,
        ),
    )

    min_likelihood: float = Field(default=-4.2, le=0, description="Lowest mean logarithm per letter pair kept.")
    min_letters: int = Field(default=16, ge=1, description="Latin letters below which pairs tell nothing.")

    def measured(self, captions: Captions) -> Measure:
        """Return the mean logarithm per pair of Latin letters."""
        return likelihood(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep what shows no sign of noise."""
        unlikely = (likelihood(captions) < np.float32(self.min_likelihood)) & (
            latin_letters(captions) >= self.min_letters
        )
        unlikely &= latin_letters(captions) * 2 >= letters(captions)
        return ~(unlikely | _noise(captions))


@remembered
def _noise(captions: Captions) -> Mask:
    """Return which captions show noise at any threshold: no vowels, numbers in disguise, a wrong encoding."""
    found = unspeakable(captions, _CONSONANTS) | _mojibake(captions)
    hexadecimal = (captions.kinds == DIGIT) | (captions.latin - np.uint8(1) < 6)
    found |= captions.matches(_HEX, has_run(captions, hexadecimal, 12) & (digits(captions) > 0))
    found |= captions.matches(_BASE64, has_run(captions, captions.points > ord(" "), 40) & (digits(captions) > 0))
    return found


def _mojibake(captions: Captions) -> Mask:
    _, rows, points = foreign(captions)
    among = np.zeros(len(captions), dtype=bool)
    among[rows[np.isin(points, _MOJIBAKE_SIGNS)]] = True
    return captions.matches(_MOJIBAKE, among)
