"""A conversation as the chat page holds it: what was said and shown, and how it goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from stages.serving.limits import Limits
from stages.serving.pictures import SeenPicture, seen
from stages.serving.refusal import Refused
from stages.serving.relay import Relay
from stages.serving.requests import checked

WAITING = "…"


@dataclass(frozen=True)
class Exchange:
    """A question with its pictures, and what has been answered so far."""

    question: str
    pictures: tuple[SeenPicture, ...] = ()
    answer: str = ""

    def asked(self) -> dict[str, Any]:
        """Return the question as a client would send it, but with pictures that are judged already."""
        text = [{"type": "text", "text": self.question}] if self.question else []
        return {"role": "user", "content": [*self.pictures, *text]}


History = tuple[Exchange, ...]


def pictures_of(history: Sequence[Exchange]) -> list[SeenPicture]:
    """Return all pictures of a conversation, the oldest first."""
    return [picture for exchange in history for picture in exchange.pictures]


def uploaded(files: Sequence[str], limits: Limits) -> tuple[SeenPicture, ...]:
    """Return uploaded files as pictures.

    Raises:
        Refused: One of them is none that is taken.
    """
    return tuple(_uploaded(Path(file), limits) for file in files)


@lru_cache(maxsize=4)  # looked at, then asked about; each may hold 75 MB of pixels
def _uploaded(file: Path, limits: Limits) -> SeenPicture:
    name = f"the picture {file.name[:60]}"
    try:
        if file.stat().st_size > limits.picture_bytes:
            raise Refused(413, f"{name} has more than {limits.picture_bytes:,} bytes; show a smaller one")
        body = file.read_bytes()
    except FileNotFoundError:
        raise Refused(410, f"{name} is no longer here: it was added too long ago; add it again") from None
    return seen(body, limits, name)


async def go_on(relay: Relay, history: History, exchange: Exchange) -> AsyncIterator[History]:
    """Ask the next question; yield the conversation again and again while its answer grows.

    The same checks and limits hold as for the endpoint's clients.

    Raises:
        Refused: It cannot be asked or answered; what had been answered until then was yielded.
    """
    messages: list[dict[str, Any]] = []
    for past in history:
        # What a model says is not refused as what a person says: else the conversation would end with it.
        answer = relay.model.without_control_tokens(past.answer)
        messages += [past.asked(), {"role": "assistant", "content": answer}]
    body = {"messages": [*messages, exchange.asked()]}
    async with relay.turn():
        request = await asyncio.to_thread(checked, body, relay.model, relay.limits)
        yield (*history, exchange)
        async for piece in relay.pieces(request):
            if piece.text:
                exchange = replace(exchange, answer=exchange.answer + piece.text)
                yield (*history, exchange)
    if not exchange.answer:
        raise Refused(502, "the model ended its answer before the first word; ask in other words")
