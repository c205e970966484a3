"""The bodies of requests: counted while they come, cut where they are too large or stop coming."""

import asyncio
from urllib.parse import parse_qsl

from stages.serving.asgi import Message, Receive
from stages.serving.refusal import Refused

DRAINED = 4
"""A body that is too large is read on, and thrown away, up to so many times the limit: who is still sending hears
no answer."""
SILENCE_SECONDS = 30.0
FORM_BYTES, FORM = 4096, "application/x-www-form-urlencoded"


class Body:
    """A request's body on its way in: counted piece by piece, cut where it is too large or stops coming."""

    def __init__(self, receive: Receive, most: int, declared: str | None) -> None:
        """Take up to `most` bytes, however many were declared."""
        self._receive, self._most, self._read, self._ended = receive, most, 0, False
        self._declared = int(declared) if declared is not None and declared.isdecimal() else 0
        self.refused: Refused | None = None

    async def receive(self) -> Message:
        """Return the next piece; where the body is refused, that nobody sends any more, and why in `refused`."""
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if self._ended:
            return await self._receive()
        if self._declared > self._most:
            return self._cut(413, "request_too_large")
        try:
            message = await asyncio.wait_for(self._receive(), SILENCE_SECONDS)
        except TimeoutError:
            return self._cut(408, "timeout")
        self._read += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return self._cut(413, "request_too_large") if self._read > self._most else message

    def _cut(self, status: int, code: str) -> Message:
        said = f"the request has more than {self._most:,} bytes; send fewer or smaller pictures"
        if status == 408:
            said, self._ended = f"nothing came for {SILENCE_SECONDS:.0f} s; send the whole request", True
        self.refused = Refused(status, said, code=code)
        return {"type": "http.disconnect"}

    async def drain(self) -> None:
        """Read the rest and throw it away, so that a client that sends first and reads later hears the answer."""
        while not self._ended and self._read < DRAINED * self._most:
            try:
                message = await asyncio.wait_for(self._receive(), SILENCE_SECONDS)
            except TimeoutError:
                return
            self._read += len(message.get("body", b""))
            self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)


async def form_of(receive: Receive) -> list[tuple[str, str]]:
    """Return the fields of our form; none where more comes than it can hold, or nothing for a while."""
    body, more = b"", True
    while more and len(body) <= FORM_BYTES:
        try:
            message = await asyncio.wait_for(receive(), SILENCE_SECONDS)
        except TimeoutError:
            return []
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return parse_qsl(body.decode("latin-1")) if len(body) <= FORM_BYTES else []
