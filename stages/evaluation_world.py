"""Evaluation scenes of the drawn world: their pictures, their captions with one word swapped, and slots read back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from PIL import Image

from stages.sources.captions import caption, words
from stages.sources.scenes import COLORS, COUNTS, RELATIONS, SHAPES, Scene, Split, evaluation_pictures

SLOTS: dict[str, tuple[Any, ...]] = {
    "group_count": COUNTS,
    "group_color": tuple(COLORS),
    "group_shape": SHAPES,
    "relation": RELATIONS,
    "single_color": tuple(COLORS),
    "single_shape": SHAPES,
}
"""What a caption says, in the order in which it says it, with all values that compete."""
SPLITS = (Split.IID, Split.UNSEEN)


@dataclass(frozen=True)
class World:
    """The pictures of one evaluation split and what they show."""

    split: Split
    pictures: list[Image.Image]
    scenes: list[Scene]

    def captions(self, language: str) -> list[str]:
        """Return each scene's caption."""
        return [caption(scene, language) for scene in self.scenes]


def worlds(count: int, seed: int, image_size: int) -> list[World]:
    """Return the first `count` scenes of both evaluation splits; none of them is ever drawn in training."""
    found = []
    for split in SPLITS:
        pairs = evaluation_pictures(split, count, seed, image_size)
        found.append(World(split, [picture for picture, _ in pairs], [scene for _, scene in pairs]))
    return found


def elsewhere(items: Sequence[Any]) -> list[Any]:
    """Return each sample's neighbour in its place: what a blind baseline looks at."""
    return [*items[1:], *items[:1]]


def variants(scene: Scene, slot: str, language: str) -> list[str]:
    """Return the scene's caption with each value of a slot in turn, in the order of `SLOTS`."""
    return [caption(replace(scene, **{slot: value}), language) for value in SLOTS[slot]]


def swapped(scene: Scene, number: int, language: str) -> tuple[str, str]:
    """Return (slot, caption with that slot wrong); slots and wrong values take turns by the scene's number."""
    slot = list(SLOTS)[number % len(SLOTS)]
    wrong = [value for value in SLOTS[slot] if value != getattr(scene, slot)]
    value = wrong[number // len(SLOTS) % len(wrong)]
    return slot, caption(replace(scene, **{slot: value}), language)


_RELATION_WORDS = {
    "en": {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
    "de": {"left": "links von", "right": "rechts von", "above": "über", "below": "unter"},
}
_PATTERN = {
    # Chinese runs without spaces; 三 also begins the word for triangle, so a count needs its measure word.
    "zh": {"color": "{}", "shape": "{}", "count": "{}个", "relation": "{}"},
    "en": {"color": r"\b{}\b", "shape": r"\b{}(?:s|es)?\b", "count": r"\b{}\b", "relation": r"\b{}\b"},
    "de": {"color": r"\b{}(?:e|en)?\b", "shape": r"\b{}(?:e)?\b", "count": r"\b{}\b", "relation": r"\b{}\b"},
}
_KINDS: dict[str, tuple[str, ...]] = {
    "color": ("group_color", "single_color"),
    "shape": ("group_shape", "single_shape"),
    "count": ("group_count",),
    "relation": ("relation",),
}


@cache
def _expressions(language: str) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return for each kind of word (value, pattern)."""
    known = words(language)
    said = {**known, "relation": _RELATION_WORDS.get(language, known["relation"])}
    if language == "zh":
        said["count"] = {"2": "两", "3": "三"}
    return {
        kind: [(value, re.compile(_PATTERN[language][kind].format(re.escape(word)))) for value, word in found.items()]
        for kind, found in said.items()
    }


def read_slots(text: str, language: str) -> dict[str, Any]:
    """Return what a caption says of each slot, None where it says nothing.

    The first colour and shape belong to the group, the second to the single object, as in every
    caption of this world; how the sentence begins and ends does not matter.
    """
    found: dict[str, Any] = dict.fromkeys(SLOTS)
    for kind, expressions in _expressions(language).items():
        places = sorted((match.start(), value) for value, pattern in expressions for match in pattern.finditer(text))
        for slot, (_, value) in zip(_KINDS[kind], places, strict=False):
            found[slot] = int(value) if kind == "count" else value
    return found
