"""Drop captions that are no connected language, or were cut."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, remembered
from filters.text.completeness import cut_off, finite_verbs, function_words, judged, led_on, participles, titles


@remembered
def _connecting(captions: Captions, most_participles: int, most_capitalised: float) -> Measure:
    finite = finite_verbs(captions)
    found = function_words(captions) + np.minimum(finite + participles(captions), most_participles)
    titled = titles(captions, most_capitalised) & (found > 0) & (finite == 0) & ~led_on(captions)
    return np.asarray(found - titled, dtype=np.float32)


class Completeness(CaptionFilter):
    """Keep captions with enough function words, and that do not end in the middle.

    Closed-class words count, of whichever of 30 languages has most of them, and particles in Chinese, Japanese,
    Korean and Thai; so do Chinese verbs, adverbs and ends of clauses, one listed verb or English participle, and one
    end of a verb or a case where a language says by ends what others say by small words. Captions in Title Case need
    one word more unless a listed verb or a participle before a small word shows a clause, German ones only where
    nearly all words have a capital; where all letters are capitals they tell nothing. Scripts whose words are not
    listed are kept. Cut off is what ends on an ellipsis, an open bracket, a comma, or on a word that announces
    another one.
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
            "核桃巧克力粒杯子蛋糕",
            "百度贴吧企业平台认证",
            "Neuer Akku, mehr Reichweite",
        ),
        (
            "An old man is sitting on a bench in the park with his dog.",
            "Auf dem Bild sind drei gelbe Kreuze rechts von einem blauen Ring.",
            "图片里有三个黄色的十字在一个蓝色的圆环的右边。",
            "公園のベンチに座っている老人と犬の写真です。",
            "Собака бежит по снегу в зимнем лесу на рассвете.",
            "공원 벤치에 앉아 있는 노인과 개가 있다",
            "美国孕妇河中分娩走红",
            "香港暴徒分赃内讧，忘关摄像头，意外泄露幕后黑手",
            "Swiatek gewinnt das Endspiel überraschend klar",
            "YouTube Launches Its Long-Awaited Music App",
            "Ulysses Conversing with Eumaeus",
            "SOFT TACOS / ARE BURRITOS IN DISGUISE",
            "when my teacher starts making worse puns / me:",
        ),
    )

    min_function_words: int = Field(default=2, ge=0, description="Fewest function words kept, inclusive.")
    max_participles: int = Field(default=1, ge=0, description="Verbs and English participles that count.")
    max_capitalised: float = Field(
        default=0.5, ge=0, le=1, description="Share of words in capitals above which one more is asked for."
    )

    def measured(self, captions: Captions) -> Measure:
        """Return how many function words, particles, verbs and participles there are; one less for titles."""
        return _connecting(captions, self.max_participles, self.max_capitalised)

    def passes(self, captions: Captions) -> Mask:
        """Keep whole sentences."""
        enough = self.measured(captions) >= self.min_function_words
        return np.asarray((enough | ~judged(captions)) & ~cut_off(captions))
