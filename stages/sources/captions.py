"""What people could write under a scene, in English, German and Chinese, and what they could ask about it."""

import random
from dataclasses import dataclass
from typing import Literal

from stages.sources.scenes import COLORS, RELATIONS, SHAPES, UNSEEN_PAIRS, Scene

LANGUAGES = ("en", "de", "zh")

_EN_PLURAL = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "ring": "rings",
    "cross": "crosses",
    "moon": "moons",
}
_EN_RELATION = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_EN_COUNT = {2: "two", 3: "three"}
_DE_COLOR = {"red": "rot", "green": "grün", "blue": "blau", "yellow": "gelb", "purple": "lila"}
_DE_SHAPE = {
    "circle": ("Kreis", "Kreise", "m"),
    "square": ("Quadrat", "Quadrate", "n"),
    "triangle": ("Dreieck", "Dreiecke", "n"),
    "ring": ("Ring", "Ringe", "m"),
    "cross": ("Kreuz", "Kreuze", "n"),
    "moon": ("Mond", "Monde", "m"),
}
_DE_RELATION = {"left": "links von", "right": "rechts von", "above": "über", "below": "unter"}
_DE_COUNT = {2: "zwei", 3: "drei"}
_ZH_COLOR = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "purple": "紫色"}
_ZH_SHAPE = {
    "circle": "圆形",
    "square": "方块",
    "triangle": "三角",
    "ring": "圆环",
    "cross": "十字",
    "moon": "月亮",
}
_ZH_RELATION = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}
_ZH_COUNT = {2: "两", 3: "三"}


def _de_adjective(color: str, ending: str) -> str:
    stem = _DE_COLOR[color]
    return stem if stem == "lila" else stem + ending


def caption(scene: Scene, language: str, variant: int = 0) -> str:
    """Return one sentence that describes a scene.

    Args:
        scene: What to describe.
        language: One of `LANGUAGES`.
        variant: Which lead-in, 0 or 1.

    Raises:
        ValueError: The language is not spoken here.
    """
    count, color, shape = scene.group_count, scene.group_color, scene.group_shape
    if language == "en":
        body = (
            f"{_EN_COUNT[count]} {color} {_EN_PLURAL[shape]} {_EN_RELATION[scene.relation]} "
            f"a {scene.single_color} {scene.single_shape}"
        )
        return f"A picture of {body}." if variant % 2 == 0 else f"There are {body} in this drawing."
    if language == "de":
        singular, _, gender = _DE_SHAPE[scene.single_shape]
        article = {"m": "einem", "n": "einem", "f": "einer"}[gender]
        body = (
            f"{_DE_COUNT[count]} {_de_adjective(color, 'e')} {_DE_SHAPE[shape][1]} "
            f"{_DE_RELATION[scene.relation]} {article} {_de_adjective(scene.single_color, 'en')} {singular}"
        )
        if variant % 2 == 0:
            return f"Auf dem Bild sind {body}."
        return f"Hier sieht man {body} in einer Zeichnung."
    if language == "zh":
        body = (
            f"{_ZH_COUNT[count]}个{_ZH_COLOR[color]}的{_ZH_SHAPE[shape]}在一个"
            f"{_ZH_COLOR[scene.single_color]}的{_ZH_SHAPE[scene.single_shape]}的{_ZH_RELATION[scene.relation]}"
        )
        return f"图片里有{body}。" if variant % 2 == 0 else f"这幅画中可以看到{body}。"
    raise ValueError(f"no captions in {language!r}; known are {', '.join(LANGUAGES)}")


Kind = Literal["color", "shape", "relation", "count", "exists", "lookup"]
KINDS: tuple[Kind, ...] = ("color", "shape", "relation", "count", "exists")
"""What is asked about every scene that a chat model is judged by."""
LOOKUP: Kind = "lookup"
"""Asked in training alone: the object that a word names has to be found, as for `exists`, and the answer says more
than yes or no. Without such questions `exists` is not learned (docs/log.md)."""


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
        "exists": "Is there a {color} {shape}?",
        "color_of": "What color is the {shape}?",
        "shape_of": "What shape is the {color} one?",
    },
    "de": {
        "color": "Welche Farbe haben die gleichen Objekte?",
        "shape": "Welche Form haben die gleichen Objekte?",
        "relation": "Wo sind die gleichen Objekte, vom anderen aus gesehen?",
        "count": "Wie viele Objekte sind von derselben Art?",
        "exists": "Gibt es ein Objekt {shape} in {color}?",
        "color_of": "Welche Farbe hat das Objekt {shape}?",
        "shape_of": "Welche Form hat das Objekt in {color}?",
    },
    "zh": {
        "color": "相同的物体是什么颜色？",
        "shape": "相同的物体是什么形状？",
        "relation": "相同的物体在另一个的哪边？",
        "count": "有几个相同的物体？",
        "exists": "有{color}的{shape}吗？",
        "color_of": "{shape}是什么颜色？",
        "shape_of": "{color}的物体是什么形状？",
    },
}
_YES_NO = {"en": ("yes", "no"), "de": ("ja", "nein"), "zh": ("有", "没有")}


def words(language: str) -> dict[str, dict[str, str]]:
    """Return the answer words of a language by kind: color, shape, relation, count."""
    if language == "en":
        return {
            "color": {c: c for c in COLORS},
            "shape": {s: s for s in SHAPES},
            "relation": {r: r for r in RELATIONS},
            "count": {str(k): v for k, v in _EN_COUNT.items()},
        }
    if language == "de":
        relation = {"left": "links", "right": "rechts", "above": "oben", "below": "unten"}
        return {
            "color": dict(_DE_COLOR),
            "shape": {s: _DE_SHAPE[s][0] for s in SHAPES},
            "relation": relation,
            "count": {str(k): v for k, v in _DE_COUNT.items()},
        }
    return {
        "color": dict(_ZH_COLOR),
        "shape": dict(_ZH_SHAPE),
        "relation": dict(_ZH_RELATION),
        "count": {str(k): v for k, v in _ZH_COUNT.items()},
    }


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


def ask(scene: Scene, language: str, kind: Kind, rng: random.Random, there: bool | None = None) -> Question:
    """Return a question of one of `KINDS`, or a `LOOKUP`; what else it needs is drawn.

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
        color, shape = rng.choice(_pairs_shown(scene) if there else absent_pairs(scene))
        asked = _ASK[language][kind].format(color=said["color"][color], shape=said["shape"][shape])
        return Question(kind, asked, _YES_NO[language][0 if there else 1])
    if kind == LOOKUP:
        (color, shape), other = rng.sample(_pairs_shown(scene), 2)
        # What both objects have in common names neither of them.
        ways = [way for way, own in (("color_of", shape), ("shape_of", color)) if own not in other]
        way = rng.choice(ways)
        asked = _ASK[language][way].format(color=said["color"][color], shape=said["shape"][shape])
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
