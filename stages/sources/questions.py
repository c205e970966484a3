"""What people could ask about a scene, in English, German and Chinese, each question with its only right answer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Literal

from stages.sources.captions import LANGUAGES, caption, definite, indefinite, words
from stages.sources.scenes import COLORS, SHAPES, UNSEEN_PAIRS, Scene

Kind = Literal["color", "shape", "relation", "count", "exists", "lookup", "presence", "familiar"]
KINDS: tuple[Kind, ...] = ("color", "shape", "relation", "count", "exists")
"""What is asked about every scene that a chat model is judged by."""
LOOKUP: Kind = "lookup"
"""Asked in training alone: the object that a word names has to be found, as for `exists`, and the answer says more
than yes or no. Without such questions `exists` is not learned (docs/log.md)."""
PRESENCE: Kind = "presence"
"""Asked in training alone: whether there is anything of one colour, or of one shape."""
FAMILIAR: Kind = "familiar"
"""Asked in training alone: `exists`, of a few pairs far more often than of others; `_familiar` says why."""

Thing = tuple[str | None, str | None]
"""A colour, a shape, or both."""


@dataclass(frozen=True)
class Question:
    """One question with its only right answer; `kind` groups them in reports."""

    kind: Kind
    question: str
    answer: str


_ASK = {
    "en": {
        "color": "What color are the equal objects?",
        "shape": "What shape are the equal objects?",
        "relation": "Where are the equal objects, seen from the other one?",
        "count": "How many objects are of the same kind?",
        "exists": "Is there {thing}?",
        "color_of": "What color is {thing}?",
        "shape_of": "What shape is {thing}?",
    },
    "de": {
        "color": "Welche Farbe haben die gleichen Objekte?",
        "shape": "Welche Form haben die gleichen Objekte?",
        "relation": "Wo sind die gleichen Objekte, vom anderen aus gesehen?",
        "count": "Wie viele Objekte sind von derselben Art?",
        "exists": "Gibt es {thing}?",
        "color_of": "Welche Farbe hat {thing}?",
        "shape_of": "Welche Form hat {thing}?",
    },
    "zh": {
        "color": "相同的物体是什么颜色？",
        "shape": "相同的物体是什么形状？",
        "relation": "相同的物体在另一个的哪边？",
        "count": "有几个相同的物体？",
        "exists": "有{thing}吗？",
        "color_of": "{thing}是什么颜色？",
        "shape_of": "{thing}是什么形状？",
    },
}
_YES_NO = {"en": ("yes", "no"), "de": ("ja", "nein"), "zh": ("有", "没有")}


def _pairs_shown(scene: Scene) -> list[tuple[str, str]]:
    return [(scene.group_color, scene.group_shape), (scene.single_color, scene.single_shape)]


def absent_pairs(scene: Scene) -> list[tuple[str, str]]:
    """Return the colours with shapes that one may ask for in vain.

    A pair that training never draws is asked for only about a scene that has such a pair itself. Asked for
    in training, it would always be absent, and be learned as absent.
    """
    shown = _pairs_shown(scene)
    strange = not UNSEEN_PAIRS.isdisjoint(shown)
    every = [(color, shape) for color in COLORS for shape in SHAPES]
    return [pair for pair in every if pair not in shown and (strange or pair not in UNSEEN_PAIRS)]


def _yes_no(kind: Kind, language: str, thing: Thing, there: bool) -> Question:
    """Return the question whether a thing is there, and what is right."""
    asked = _ASK[language]["exists"].format(thing=indefinite(language, *thing))
    return Question(kind, asked, _YES_NO[language][0 if there else 1])


def _shows(pair: tuple[str, str], thing: Thing) -> bool:
    return thing[0] in (None, pair[0]) and thing[1] in (None, pair[1])


def _familiar(scene: Scene, things: Sequence[Thing], rng: random.Random) -> tuple[Thing, bool]:
    """Return a thing and whether a scene shows it: the first colours and shapes are drawn far more often.

    Yes and no tell nothing of a picture until a named thing and what is seen are compared, which is learned late or
    never where all things are equally rare. One thing that is often asked for is soon told from its absence, and
    the others follow. What many scenes show weighs less where it is shown, so that no word alone gives the answer
    away: the commonest pair is there in one of four questions for it, a colour or a shape in about half.
    """
    weights, there = [], []
    for color, shape in things:
        weight = 0.5 ** ((list(COLORS).index(color) if color else 0) + (SHAPES.index(shape) if shape else 0))
        there.append(any(_shows(pair, (color, shape)) for pair in _pairs_shown(scene)))
        shown = _share_of_scenes((color, shape))
        weights.append(weight / (shown if there[-1] else 1 - shown))
    (found,) = rng.choices(range(len(things)), weights)
    return things[found], there[found]


@cache
def _share_of_scenes(thing: Thing) -> float:
    """Return how many of the training scenes, each of two unequal pairs, show a thing."""
    pairs = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in UNSEEN_PAIRS]
    others = sum(not _shows(pair, thing) for pair in pairs)
    return 1 - comb(others, 2) / comb(len(pairs), 2)


def ask(scene: Scene, language: str, kind: Kind, rng: random.Random, there: bool | None = None) -> Question:
    """Return a question of any kind; what else it needs is drawn.

    Args:
        scene: What it is about.
        language: One of `LANGUAGES`.
        kind: What it asks for.
        rng: Draws whether and which object is asked for.
        there: Whether an `exists` is true; drawn when left out.
    """
    said = words(language)
    if kind == "exists":
        there = rng.random() < 0.5 if there is None else there
        return _yes_no(kind, language, rng.choice(_pairs_shown(scene) if there else absent_pairs(scene)), there)
    if kind == FAMILIAR:
        return _yes_no(kind, language, *_familiar(scene, [*_pairs_shown(scene), *absent_pairs(scene)], rng))
    if kind == PRESENCE:
        colors, shapes = [(color, None) for color in COLORS], [(None, shape) for shape in SHAPES]
        return _yes_no(kind, language, *_familiar(scene, rng.choice([colors, shapes]), rng))
    if kind == LOOKUP:
        (color, shape), other = rng.sample(_pairs_shown(scene), 2)
        # What both objects have in common names neither of them.
        ways = [way for way, own in (("color_of", shape), ("shape_of", color)) if own not in other]
        way = rng.choice(ways)
        thing = (None, shape) if way == "color_of" else (color, None)
        asked = _ASK[language][way].format(thing=definite(language, *thing))
        return Question(kind, asked, said["color"][color] if way == "color_of" else said["shape"][shape])
    shown = {"color": scene.group_color, "shape": scene.group_shape, "relation": scene.relation}
    return Question(kind, _ASK[language][kind], said[kind][shown.get(kind, str(scene.group_count))])


def questions(scene: Scene, language: str) -> list[Question]:
    """Return one question of each of `KINDS`; `exists` is true for every other scene seed."""
    rng = random.Random(scene.seed ^ 0x5EED)
    return [ask(scene, language, kind, rng, there=scene.seed % 2 == 0) for kind in KINDS]


@dataclass(frozen=True)
class Document:
    """A scene described, described again in `language`, and two questions about it in that language."""

    described: str
    language: str
    retold: str
    asked: list[Question]


def document(scene: Scene, index: int) -> Document:
    """Return what the language stage reads about a scene."""
    rng = random.Random(scene.seed ^ (index << 8))
    first, second = rng.choice(LANGUAGES), rng.choice(LANGUAGES)
    asked = rng.sample(questions(scene, second)[:4], 2)
    described, retold = (caption(scene, language, rng.randint(0, 1)) for language in (first, second))
    return Document(described, second, retold, asked)
