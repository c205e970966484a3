"""Ways in which the hostile web answers: a request, and what to make pages of."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hostile_pictures import PICTURES

MEGABYTE = 1 << 20


class Visit:
    """One request, and the ways to answer it; every way returns whether the connection may go on."""

    def __init__(self, path: str, writer: asyncio.StreamWriter, web: Any, nth: int) -> None:
        """Take the request of a path, the `nth` one on its connection."""
        self.path, self.writer, self.web, self.nth = path, writer, web, nth

    async def write(self, *pieces: bytes) -> bool:
        """Send bytes as they are; the connection ends."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
        return False

    async def send(self, status: int, body: bytes, *headers: str, kind: str = "image/jpeg") -> bool:
        """Send a proper answer; the connection stays."""
        lines = [f"HTTP/1.1 {status} Remote Words", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
        await self.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", body)
        return True

    async def picture(self, body: bytes, *headers: str) -> bool:
        """Send a picture."""
        return await self.send(200, body, *headers)

    async def robots(self, answer: bytes | int) -> bool:
        """Answer for /robots.txt."""
        return await (
            self.send(answer, b"") if isinstance(answer, int) else self.send(200, answer, kind="text/plain")
        )


Page = Callable[[Visit], Awaitable[bool]]


def jpeg() -> bytes:
    """The picture that a page shows when it shows one."""
    return PICTURES["/picture/jpeg"]()


def raw(text: str, *pieces: bytes) -> Page:
    """Say exactly this and hang up; `\\n` in the text is sent as CRLF."""
    head = text.replace("\n", "\r\n").encode("latin-1")
    return lambda visit: visit.write(head, *pieces)


def lie(headers: str, body: Callable[[], bytes] = jpeg) -> Page:
    """Send a picture under a head that does not fit it."""
    return lambda visit: visit.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode("latin-1"), body())


def status(code: int, *headers: str, body: bytes = b"page of an error <script>") -> Page:
    """Answer with a status."""
    return lambda visit: visit.send(code, b"" if code in (204, 304) else body, *headers, kind="text/html")


def drip(head: bytes, piece: bytes, every: float = 0.05, times: int = 400) -> Page:
    """Send something at once, then a little of something from time to time."""

    async def page(visit: Visit) -> bool:
        await visit.write(head)
        for _ in range(times):
            await visit.write(piece)
            await asyncio.sleep(every)
        return False

    return page


def endless(head: bytes, piece: bytes, megabytes: int = 64) -> Page:
    """Send more than anybody wants."""
    return lambda visit: visit.write(head, *[piece] * (megabytes * MEGABYTE // len(piece)))


def then(first: Page, after: Page, times: int = 1) -> Page:
    """Show one page `times` times, and another one from then on."""

    async def page(visit: Visit) -> bool:
        return await (first if visit.web.hits[visit.path] <= times else after)(visit)

    return page


def headed(*headers: str) -> Page:
    """Send a picture with further headers."""
    return lambda visit: visit.picture(jpeg(), *headers)
