"""What people could write under a scene, in English, German and Chinese."""

from stages.sources.scenes import COLORS, RELATIONS, SHAPES, Scene

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
_DE_OBJECT = ("Objekt", "Objekte", "n")
_DE_NOMINATIVE = {"m": "der", "n": "das"}
_DE_ACCUSATIVE = {"m": ("einen", "en"), "n": ("ein", "es")}
"""Indefinite article and ending of the adjective behind it, by gender."""
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


def words(language: str) -> dict[str, dict[str, str]]:
    """Return the words of a language, as answers have them, by kind: color, shape, relation, count."""
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


def indefinite(language: str, color: str | None, shape: str | None) -> str:
    """Return a thing as an object of a sentence that says for the first time that it is there.

    Args:
        language: One of `LANGUAGES`.
        color: Of the thing; None where only its shape is named.
        shape: Of the thing; None where only its colour is named.
    """
    if language == "en":
        return " ".join(["a", *([color] if color else []), shape or "object"])
    if language == "de":
        noun, _, gender = _DE_SHAPE[shape] if shape else _DE_OBJECT
        article, ending = _DE_ACCUSATIVE[gender]
        return " ".join([article, *([_de_adjective(color, ending)] if color else []), noun])
    noun = _ZH_SHAPE[shape] if shape else "物体"
    return f"{_ZH_COLOR[color]}的{noun}" if color else noun


def definite(language: str, color: str | None, shape: str | None) -> str:
    """Return a thing, named by its colour or by its shape, as the subject of a sentence; see `indefinite`."""
    if language == "en":
        return f"the {shape}" if shape else f"the {color} one"
    if language == "de":
        noun, _, gender = _DE_SHAPE[shape] if shape else _DE_OBJECT
        return " ".join([_DE_NOMINATIVE[gender], *([_de_adjective(color, "e")] if color else []), noun])
    return indefinite(language, color, shape)
