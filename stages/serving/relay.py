"""Ask the engine and pass its answer on, piece by piece; what fails on its side becomes a sentence."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from stages.serving.engine_process import EngineProcess, EngineState
from stages.serving.limits import Limits
from stages.serving.refusal import Refused
from stages.serving.requests import ChatRequest
from stages.serving.served_model import ServedModel

_log = logging.getLogger(__name__)
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Piece:
    """A bit of an answer, or its end.

    Attributes:
        text: What is said next; may be empty.
        finish: At the end: `stop` or `length`.
        usage: At the end: counts of tokens.
    """

    text: str = ""
    finish: str | None = None
    usage: dict[str, int] | None = None


class Relay:
    """Requests on their way to one engine, no more at once than the limit."""

    def __init__(self, process: EngineProcess, model: ServedModel, limits: Limits) -> None:
        """Take a process that may be starting, or dead by now."""
        self.process, self.model, self.limits = process, model, limits
        self._busy = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one of the places.

        Raises:
            Refused: All are taken.
        """
        if self._busy >= self.limits.at_once:
            raise Refused(
                429, f"{self._busy} requests are being answered already; ask again in a moment",
                code="too_many_requests", retry_after_seconds=2,
            )  # fmt: skip
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield an answer as it grows; the last piece carries why it ended.

        Raises:
            Refused: The engine is not there, died meanwhile, failed, or took too long.
        """
        if self.process.state is not EngineState.READY or not self.process.alive:
            raise self._gone()
        stop = time.monotonic() + self.limits.answer_seconds
        # Pictures are encoded and written out on a thread: that takes a second or more, and others wait for pieces.
        body = await asyncio.to_thread(lambda: json.dumps(self.process.engine.body(request, self.model)).encode())
        ended = False
        try:
            async with (
                self.process.client(self.limits.answer_seconds) as client,
                client.stream("POST", "/v1/chat/completions", content=body, headers=_JSON) as answer,
            ):
                if answer.status_code != 200:
                    raise self._failed(await answer.aread())
                async for line in answer.aiter_lines():
                    if time.monotonic() > stop:
                        raise self._late()
                    if (piece := self._piece(line)) is not None:
                        ended = ended or piece.finish is not None
                        yield piece
        except httpx.TimeoutException:
            raise self._late() from None
        except httpx.HTTPError:
            raise self._gone() from None
        if not ended:
            raise self._gone()

    def _piece(self, line: str) -> Piece | None:
        """Return what one line of an event stream says, None where it says nothing."""
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            return None
        try:
            event: dict[str, Any] = json.loads(data)
        except ValueError:
            raise self._failed(data.encode()) from None
        if "error" in event:
            raise self._failed(data.encode())
        usage = event.get("usage")
        counts = (
            {key: int(usage[key]) for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
            if usage
            else None
        )
        choice = (event.get("choices") or [{}])[0]
        return Piece(choice.get("delta", {}).get("content") or "", choice.get("finish_reason"), counts)

    def _gone(self) -> Refused:
        return Refused(
            503, "the engine behind this server is not there: it is being started; ask again in a moment",
            code="engine_unavailable", retry_after_seconds=5,
        )  # fmt: skip

    def _late(self) -> Refused:
        return Refused(
            504, f"the answer took longer than {self.limits.answer_seconds:.0f} s; ask for fewer tokens",
            code="timeout",
        )  # fmt: skip

    def _failed(self, said: bytes) -> Refused:
        # An engine's own words may hold paths: they are for whoever runs the server, not for whoever asks it.
        _log.warning("the engine %s failed: %s", self.process.engine.name, said[:2000].decode(errors="replace"))
        return Refused(
            502, "the engine behind this server failed on this request; the terminal of whoever runs it says why",
            code="engine_error",
        )  # fmt: skip


def completion_id() -> str:
    """Return a new name for an answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"
