"""A chat request, checked: what is left of it is safe to hand to an engine, and small enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.serving.limits import Limits
from stages.serving.pictures import SeenPicture, from_url
from stages.serving.refusal import Refused
from stages.serving.served_model import ServedModel

TAKEN = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "seed", "n", "user",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
LEAST_ANSWER = 8

Part = str | SeenPicture


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


@dataclass(frozen=True)
class ChatRequest:
    """A request that may be answered."""

    turns: tuple[Turn, ...]
    answer_tokens: int
    stream: bool = False
    include_usage: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


def checked(body: Any, model: ServedModel, limits: Limits) -> ChatRequest:
    """Return what a request's body asks for; pictures that it names on the web are fetched.

    Raises:
        Refused: It asks for what is not offered, or for too much; the message names field, fact and next move.
    """
    if not isinstance(body, dict):
        raise Refused(400, 'the body is no JSON object; send {"messages": [...]}', code="invalid_json")
    if unknown := sorted(set(body) - set(TAKEN)):
        field = str(unknown[0])[:60].encode("ascii", "backslashreplace").decode()
        raise Refused(
            400, f"the field {field!r} is not offered; leave it out; known are {', '.join(TAKEN)}",
            code="unknown_parameter", param=field,
        )  # fmt: skip
    named = body.get("model")
    if named not in (None, model.name):
        raise Refused(
            404, f"there is no model {str(named)[:80]!r} here; the one there is: {model.name}",
            code="model_not_found", param="model",
        )  # fmt: skip
    if body.get("n") not in (None, 1):
        raise Refused(400, "n: one answer at a time; ask again for another", code="unsupported_value", param="n")
    turns = conversation(body.get("messages"), model, limits)
    return ChatRequest(
        turns=turns,
        answer_tokens=room_for_answer(turns, _answer_tokens(body, limits), model, limits),
        stream=_flag(body, "stream"),
        include_usage=_flag(body.get("stream_options") or {}, "include_usage"),
        temperature=_number(body, "temperature", 0.0, 2.0) or 0.0,
        top_p=1.0 if (top_p := _number(body, "top_p", 0.0, 1.0)) is None else max(top_p, 1e-6),
        seed=_whole(body, "seed", -(2**31), 2**31 - 1),
    )


def _answer_tokens(body: Mapping[str, Any], limits: Limits) -> int | None:
    given = [_whole(body, name, 1, limits.answer_tokens) for name in ("max_completion_tokens", "max_tokens")]
    return next((number for number in given if number is not None), None)


def _wrong(name: str, value: Any, wanted: str) -> Refused:
    return Refused(400, f"{name} is {str(value)[:60]!r}; it is {wanted}", code="invalid_value", param=name)


def _flag(body: Any, name: str) -> bool:
    value = body.get(name) if isinstance(body, dict) else body
    if value not in (None, True, False) or isinstance(value, float):
        raise _wrong(name, value, "true or false")
    return bool(value)


def _number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _wrong(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _whole(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")
    return int(value)


def conversation(messages: Any, model: ServedModel, limits: Limits) -> tuple[Turn, ...]:
    """Return messages as turns: perhaps a system's first, then a user's and an assistant's by turns, a user's last.

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
        shown += sum(kind == "image" for kind, _ in raw)
        said += sum(len(value) for kind, value in raw if kind == "text")
        if shown > limits.pictures:
            raise _refuse(f"more than {limits.pictures} pictures in one conversation; show fewer")
        if said > limits.text_characters:
            raise _refuse(f"more than {limits.text_characters:,} characters of text; say less")
        turns.append((role, raw))
    return tuple(_turn(role, raw, place, model, limits) for place, (role, raw) in enumerate(turns))


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


def _parts(content: Any, role: str, place: int) -> list[tuple[str, str]]:
    """Return a message's content as (kind, text or address) pairs; kind is `text` or `image`."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise _refuse(f"messages[{place}].content is neither a text nor a list of parts; send one of them")
    found = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            found.append(("text", part["text"]))
        elif kind == "image_url":
            given = part.get("image_url")
            url = given.get("url") if isinstance(given, dict) else given
            if not isinstance(url, str):
                raise _refuse(f'messages[{place}]: an image_url part holds {{"url": "data:image/png;base64,..."}}')
            if role != "user":
                raise _refuse(f"messages[{place}]: only the user shows pictures; move it to a user's message")
            found.append(("image", url))
        else:
            raise _refuse(
                f"messages[{place}] has a part of type {str(kind)[:40]!r}; known are text and image_url "
                "(a video's frames may be sent as pictures)"
            )
    return found


def _turn(role: str, raw: Sequence[tuple[str, str]], place: int, model: ServedModel, limits: Limits) -> Turn:
    """Return one turn with its pictures fetched and decoded; a single one stands before the text, as in training."""
    parts: list[Part] = []
    number = 0
    for kind, value in raw:
        if kind == "image":
            number += 1
            parts.append(from_url(value, limits, f"messages[{place}], picture {number}"))
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


def room_for_answer(turns: Sequence[Turn], asked: int | None, model: ServedModel, limits: Limits) -> int:
    """Return how many tokens the answer may have.

    Args:
        turns: The conversation.
        asked: How many were asked for; the usual number, or what is left, when nobody says.
        model: Whose room it is.
        limits: What is usual.

    Raises:
        Refused: Conversation and answer do not fit into the model's context.
    """
    sizes = [picture.image.size for turn in turns for picture in turn.pictures]
    used = model.prompt_tokens([turn.text for turn in turns], sizes)
    left = model.context - used
    wanted = asked if asked is not None else max(LEAST_ANSWER, min(limits.usual_answer_tokens, left))
    if wanted > left:
        raise Refused(
            400, f"the conversation has about {used:,} tokens and the answer may have {wanted:,}, together at most "
            f"{model.context:,} fit; leave out earlier turns, show fewer pictures or lower max_tokens",
            code="context_length_exceeded", param="messages",
        )  # fmt: skip
    return wanted
