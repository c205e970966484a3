"""Drop captions that are no connected language, or were cut."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.completeness import cut_off, finite_verbs, function_words, judged, participles, titles


class Completeness(CaptionFilter):
    """Keep captions with enough function words, and that do not end in the middle.

    Closed-class words count, of whichever of 30 languages has most of them, and particles in Chinese, Japanese,
    Korean and Thai; so does one English participle, and one end of a verb or a case where a language says by ends
    what others say by small words. Captions in Title Case need one word more, German ones only where nearly all
    words have a capital, and those in scripts whose words are not listed are kept. Cut off is what ends on an
    ellipsis, an open bracket, a comma, or on a word that announces another one.
    """

    reason: ClassVar[str] = "completeness"
    unit: ClassVar[str] = "function words"
    threshold: ClassVar[str] = "min_function_words"
    stops: ClassVar[tuple[float, ...]] = (0, 1, 2, 3, 4, 5, 6, 8)
    origin: ClassVar[str] = (
        "ours: Google's rules for CC3M asked for determiner, noun and preposition and kept 3 % of alt-text "
        "(Sharma et "
        "al. 2018), which only parsers of each language could repeat; two function words tell sentences from titles"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "A picture of two red circles to the left of a",
            "Canon EOS camera black",
            "A view of the...",
            "Schwarze Kamera Canon EOS neu",
            "Ein Hund läuft über den See und",
            "Продажа автомобилей Москва недорого",
        ),
        (
            "An old man is sitting on a bench in the park with his dog.",
            "Auf dem Bild sind drei gelbe Kreuze rechts von einem blauen Ring.",
            "图片里有三个黄色的十字在一个蓝色的圆环的右边。",
            "公園のベンチに座っている老人と犬の写真です。",
            "Собака бежит по снегу в зимнем лесу на рассвете.",
            "공원 벤치에 앉아 있는 노인과 개가 있다",
        ),
    )

    min_function_words: int = Field(default=2, ge=0, description="Fewest function words kept, inclusive.")
    max_participles: int = Field(default=1, ge=0, description="English words in -ing or -ed that count as one.")
    max_capitalised: float = Field(
        default=0.5, ge=0, le=1, description="Share of words in capitals above which one more is asked for."
    )

    def measured(self, captions: Captions) -> Measure:
        """Return how many function words, particles and participles there are; one less for titles in capitals."""
        finite = finite_verbs(captions)
        found = function_words(captions) + np.minimum(finite + participles(captions), self.max_participles)
        titled = titles(captions, self.max_capitalised) & (found > 0) & (finite == 0)
        return (found - titled).astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep whole sentences."""
        enough = self.measured(captions) >= self.min_function_words
        return (enough | ~judged(captions)) & ~cut_off(captions)
