"""The messages of a chat request as turns: roles in order, known parts, pictures decoded, no control tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from stages.serving.limits import Limits
from stages.serving.pictures import SeenPicture, from_url
from stages.serving.refusal import Refused
from stages.serving.served_model import ServedModel

ROLES = ("system", "user", "assistant")

Part = str | SeenPicture


@dataclass(frozen=True)
class Shown:
    """What a part of a message shows: an address, or a picture that was judged before, as on our own page."""

    picture: str | SeenPicture


@dataclass(frozen=True)
class Turn:
    """One message: its text and pictures, in order."""

    role: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text of the turn."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> list[SeenPicture]:
        """All pictures of the turn."""
        return [part for part in self.parts if isinstance(part, SeenPicture)]

    def message(self) -> dict[str, Any]:
        """Return the turn as an engine takes it."""
        content = [
            {"type": "text", "text": part} if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": part.data_url}}
            for part in self.parts
        ]  # fmt: skip
        return {"role": self.role, "content": content}


def conversation(messages: Any, model: ServedModel, limits: Limits) -> tuple[Turn, ...]:
    """Return messages as turns: perhaps a system's first, then a user's and an assistant's by turns, a user's last.

    A content's part may also be a `SeenPicture`, which JSON cannot hold: it is taken as it is.

    Raises:
        Refused: They are not, or hold what may not be said or shown.
    """
    if not isinstance(messages, list) or not messages:
        raise _refuse('messages is no list of at least one message; send [{"role": "user", "content": ...}]')
    if len(messages) > limits.messages:
        raise _refuse(f"{len(messages)} messages, at most {limits.messages} are taken; leave out the oldest")
    roles = [_role(message, place) for place, message in enumerate(messages)]
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"]:
        raise _refuse(
            f"the roles are {', '.join(roles)}; after at most one system message, user and assistant take turns, and "
            "the user has the last word"
        )
    shown, said = 0, 0
    turns = []
    for place, (role, message) in enumerate(zip(roles, messages, strict=True)):
        raw = _parts(message.get("content"), role, place)
        shown += sum(isinstance(part, Shown) for part in raw)
        said += sum(len(part) for part in raw if isinstance(part, str))
        if shown > limits.pictures:
            raise _refuse(f"more than {limits.pictures} pictures in one conversation; show fewer")
        if said > limits.text_characters:
            raise _refuse(f"more than {limits.text_characters:,} characters of text; say less")
        turns.append((role, raw))
    found: list[Turn] = []
    pixels = 0
    for place, (role, raw) in enumerate(turns):
        found.append(_turn(role, raw, place, model, limits, limits.all_pixels - pixels))
        pixels += sum(prod(picture.image.size) for picture in found[-1].pictures)
    return tuple(found)


def resized(turns: Sequence[Turn], model: ServedModel) -> tuple[Turn, ...]:
    """Return turns whose pictures, where there are several, share the tiles of one whatever the engine does."""
    shown = [picture for turn in turns for picture in turn.pictures]
    if len(shown) < 2:
        return tuple(turns)
    images = iter(model.resized([picture.image for picture in shown]))
    return tuple(
        Turn(turn.role, tuple(part if isinstance(part, str) else SeenPicture(next(images)) for part in turn.parts))
        for turn in turns
    )


def _refuse(message: str) -> Refused:
    return Refused(400, message, code="invalid_messages", param="messages")


def _role(message: Any, place: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    role = "system" if role == "developer" else role
    if role not in ROLES:
        raise _refuse(f"messages[{place}] has the role {str(role)[:40]!r}; known are {', '.join(ROLES)}")
    assert isinstance(message, dict)
    if extra := sorted(set(message) - {"role", "content", "name", "refusal", "annotations"}):
        raise _refuse(f"messages[{place}] has a field {str(extra[0])[:40]!r}, which is not offered; leave it out")
    return str(role)


def _parts(content: Any, role: str, place: int) -> list[str | Shown]:
    """Return a message's content: texts, and what is shown."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _refuse(f"messages[{place}].content is neither a text nor a list of parts; send one of them")
    found: list[str | Shown] = []
    for part in content:
        if isinstance(part, SeenPicture):
            found.append(Shown(part))
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            found.append(part["text"])
        elif kind == "image_url":
            given = part.get("image_url")
            url = given.get("url") if isinstance(given, dict) else given
            if not isinstance(url, str):
                raise _refuse(f'messages[{place}]: an image_url part holds {{"url": "data:image/png;base64,..."}}')
            if role != "user":
                raise _refuse(f"messages[{place}]: only the user shows pictures; move it to a user's message")
            found.append(Shown(url))
        else:
            raise _refuse(
                f"messages[{place}] has a part of type {str(kind)[:40]!r}; known are text and image_url "
                "(a video's frames may be sent as pictures)"
            )
    return found


def _turn(role: str, raw: Sequence[str | Shown], place: int, model: ServedModel, limits: Limits, pixels: int) -> Turn:
    """Return one turn with its pictures fetched and decoded; a single one stands before the text, as in training.

    `pixels` is how many all its pictures may have.
    """
    parts: list[Part] = []
    number = 0
    for value in raw:
        if isinstance(value, Shown):
            number += 1
            picture = value.picture
            if isinstance(picture, str):
                picture = from_url(picture, limits, f"messages[{place}], picture {number}")
            if (pixels := pixels - prod(picture.image.size)) < 0:
                raise Refused(
                    413, f"the pictures of the conversation have more than {limits.all_pixels:,} pixels together; "
                    "show fewer or smaller ones", code="picture_too_large", param="messages",
                )  # fmt: skip
            parts.append(picture)
            continue
        if not _whole_characters(value):
            raise _refuse(f"messages[{place}] holds half of a character (a lone surrogate); send whole ones")
        if token := model.control_token_in(value):
            raise Refused(
                400, f"messages[{place}] says {token!r}, which steers the model and cannot be said; leave it out, or "
                "put a space into it", code="control_token", param="messages",
            )  # fmt: skip
        if parts and isinstance(parts[-1], str):
            parts[-1] = f"{parts[-1]}\n{value}"
        else:
            parts.append(value)
    if role == "user" and not any(isinstance(part, SeenPicture) or part.strip() for part in parts):
        raise _refuse(f"messages[{place}] is empty; ask something")
    if number == 1:
        texts = [part for part in parts if isinstance(part, str)]
        parts = [*(part for part in parts if isinstance(part, SeenPicture)), *(["\n".join(texts)] if texts else [])]
    return Turn(role, tuple(parts))


def _whole_characters(text: str) -> bool:
    """Say whether a text can be written in UTF-8: JSON may spell halves of characters, which nothing can encode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
