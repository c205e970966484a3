"""A chat request, checked: what is left of it is safe to hand to an engine, and small enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.serving.limits import Limits
from stages.serving.messages import Turn, conversation
from stages.serving.refusal import Refused
from stages.serving.served_model import ServedModel

TAKEN = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "seed", "n", "user",
)  # fmt: skip
LEAST_ANSWER = 8


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
