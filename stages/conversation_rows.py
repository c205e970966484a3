"""What a row of instruction data must be: the official row format (InternVL), brought into one shape and checked."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from stages.chat_template import IMAGE, VIDEO, control_token_in

Reason = Literal[
    "json", "shape", "no_turns", "roles", "empty_turn", "placeholders", "control_token", "markup", "encoding",
    "duplicate", "path", "missing_picture", "picture", "too_many_pixels", "video",
]  # fmt: skip
ROLES = {"human": "human", "gpt": "gpt", "system": "system", "user": "human", "assistant": "gpt"}
COORDINATES = 1000
"""Boxes count in thousandths of a picture's width and height."""

_BOX = re.compile(r"<box>(.*?)</box>", re.DOTALL)
_QUAD = re.compile(r"<quad>(.*?)</quad>", re.DOTALL)
_REF = re.compile(r"<ref>(.*?)</ref>", re.DOTALL)


class RowError(ValueError):
    """A row that is not learned from: a reason that is counted, and what is wrong with it."""

    def __init__(self, reason: Reason, what: str) -> None:
        """Keep both."""
        super().__init__(f"{reason}: {what}")
        self.reason: Reason = reason
        self.what = what


class Row(NamedTuple):
    """A row in one shape: the turns, and the names of what is shown."""

    told: dict[str, Any]
    """`conversations` that alternate from human to gpt, `system` where the row brings one, `video` where it is."""
    pictures: list[str]
    """Names of its pictures, or of its one video."""
    clip: tuple[float, float] | None = None

    @property
    def video(self) -> bool:
        """Whether a video is shown."""
        return bool(self.told.get("video"))


def shaped(given: Any) -> Row:
    """Return a row of an annotation file in one shape, before its text is checked.

    A turn `system` in front becomes the row's own system message, a leading answer is dropped, and a
    single picture or video that is named nowhere stands before the first question, all as the official code does.

    Raises:
        RowError: Something has another type than it must have.
    """
    if not isinstance(given, dict):
        raise RowError("shape", f"it is no object but {type(given).__name__}")
    turns = [_turn(turn) for turn in _listed(given, "conversations")]
    told: dict[str, Any] = {}
    if isinstance(said := given.get("system"), str) and said:
        told["system"] = said
    if turns and turns[0]["from"] == "system":
        told["system"] = turns.pop(0)["value"]
    if turns and turns[0]["from"] == "gpt":
        turns.pop(0)
    pictures, video = _shown(given)
    if video:
        told["video"] = True
    mark = VIDEO if video else IMAGE
    if len(pictures) == 1 and turns and not any(mark in turn["value"] for turn in turns):
        turns[0] = {**turns[0], "value": f"{mark}\n{turns[0]['value']}"}
    told["conversations"] = turns
    return Row(told, pictures, _clip(given.get("clip")))


def _listed(given: dict[str, Any], name: str) -> list[Any]:
    found = given.get(name)
    if not isinstance(found, list):
        raise RowError("shape", f"it has no list {name!r}")
    return found


def _turn(turn: Any) -> dict[str, str]:
    who, said = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
    if not isinstance(who, str) or not isinstance(said, str):
        raise RowError("shape", "a turn is no object with texts 'from' and 'value'")
    if who not in ROLES:
        raise RowError("roles", f"nobody is called {who[:20]!r}; turns are of human, gpt or system")
    return {"from": ROLES[who], "value": said}


def _shown(given: dict[str, Any]) -> tuple[list[str], bool]:
    image, video = given.get("image"), given.get("video")
    if image is not None and video is not None:
        raise RowError("shape", "it names both an image and a video")
    if video is not None and not isinstance(video, str):
        raise RowError("shape", "'video' is no text")
    if video is not None:
        return [video], True
    names = image if isinstance(image, list) else [] if image is None else [image]
    if not all(isinstance(name, str) for name in names):
        raise RowError("shape", "'image' is neither a text nor a list of texts")
    return names, False


def _clip(clip: Any) -> tuple[float, float] | None:
    if clip is None:
        return None
    numbers = isinstance(clip, list) and len(clip) == 2 and all(isinstance(each, int | float) for each in clip)
    if numbers and 0 <= clip[0] < clip[1] < float("inf"):
        return float(clip[0]), float(clip[1])
    raise RowError("shape", "'clip' is no [start, end] in seconds")


def check(told: dict[str, Any], pictures: int) -> None:
    """Refuse a row that cannot be learned from.

    Turns alternate, begin with a question and end with an answer; questions name each picture once; nobody says a
    token that steers the model; boxes lie inside the picture.

    Args:
        told: `Row.told`.
        pictures: How many are shown; of a video one.

    Raises:
        RowError: It cannot be.
    """
    turns = told["conversations"]
    if not turns:
        raise RowError("no_turns", "nobody says anything")
    roles = [turn["from"] for turn in turns]
    if roles != ["human", "gpt"] * (len(turns) // 2):
        number = next((n for n, who in enumerate(roles) if who != ("human", "gpt")[n % 2]), len(roles) - 1)
        raise RowError("roles", f"turn {number + 1} is of {roles[number]}; human and gpt take turns, gpt comes last")
    said = [turn["value"] for turn in turns]
    _encodable([*said, told.get("system") or ""])
    for number, text in enumerate(said):
        if not text.replace(IMAGE, "").replace(VIDEO, "").strip():
            raise RowError("empty_turn", f"turn {number + 1} of {turns[number]['from']} is empty")
    _placeholders(said, pictures, bool(told.get("video")))
    for text in [*said, told.get("system") or ""]:
        if token := control_token_in(text.replace(IMAGE, "")):
            raise RowError("control_token", f"somebody says {token}")
    for number, text in enumerate(said):
        if wrong := markup_problem(text):
            raise RowError("markup", f"turn {number + 1}: {wrong}")


def _encodable(texts: Sequence[str]) -> None:
    try:
        json.dumps(texts, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowError("encoding", "it holds half a surrogate pair, which is no character") from error


def _placeholders(said: Sequence[str], pictures: int, video: bool) -> None:
    for mark, wanted, what in ((IMAGE, 0 if video else pictures, "pictures"), (VIDEO, int(video), "videos")):
        asked, answered = (sum(text.count(mark) for text in said[start::2]) for start in (0, 1))
        if answered:
            raise RowError("placeholders", f"an answer says {mark}")
        if asked != wanted:
            raise RowError("placeholders", f"{asked} {mark} for {wanted} {what}")


def markup_problem(text: str) -> str | None:
    """Return what is wrong with the places that a text names, None where nothing is.

    Places are `<box>[[x1, y1, x2, y2], ...]</box>` and `<quad>[[x1, y1, ... x4, y4], ...]</quad>`, integers from 0
    to 1000 with the upper left corner of a box first; names are `<ref>name</ref>`.
    """
    for name, pattern in (("box", _BOX), ("quad", _QUAD), ("ref", _REF)):
        whole = pattern.findall(text)
        if not len(whole) == text.count(f"<{name}>") == text.count(f"</{name}>"):
            return f"<{name}> and </{name}> do not belong together"
        for inside in whole:
            wrong = _name_problem(inside) if name == "ref" else _place_problem(name, inside)
            if wrong:
                return wrong
    return None


def _name_problem(inside: str) -> str | None:
    return "<ref> names nothing" if not inside.strip() else None


def _place_problem(name: str, inside: str) -> str | None:
    size = 4 if name == "box" else 8
    shown = inside.strip()[:40]
    try:
        places = json.loads(inside)
    except (ValueError, RecursionError):
        places = None
    whole = isinstance(places, list) and bool(places) and all(_integers(place, size) for place in places)
    if not whole:
        return f"<{name}>{shown}</{name}> is no list of lists of {size} integers"
    for place in places:
        if not all(0 <= value <= COORDINATES for value in place):
            return f"<{name}> {place} does not lie in 0 to {COORDINATES}"
        if name == "box" and (place[0] > place[2] or place[1] > place[3]):
            return f"<box> {place} does not begin at its upper left corner"
    return None


def _integers(place: Any, size: int) -> bool:
    return isinstance(place, list) and len(place) == size and all(type(value) is int for value in place)
