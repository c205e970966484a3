"""A web server that does everything a web server may not do, in this process.

    with HostileWeb(folder) as web:
        guard = Guard(allow={web.endpoint}, ca_file=web.ca_file)
        guard.fetch(web.url("/picture/jpeg"))
        assert web.canary_hits == 0

Paths are tables: `hostile_pages.PAGES` (statuses, redirects, framing, slowness, headers) and
`hostile_pictures.PICTURES` (what decoders meet, each with the pixels that a right decoder sees). `/link/...` paths
lead to the canary, a server on a port that no test allows: whoever reaches it has left the policy.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from certificates import Authority
from hostile_answers import Visit
from hostile_pages import PAGES, link_page
from hostile_pictures import PICTURES

TLS_KINDS = ("good", "self_signed", "wrong_host", "expired", "not_yet")


class HostileWeb:
    """The server: `http`, one TLS port per kind of certificate, two ports that are no TLS at all, and the canary."""

    def __init__(self, folder: Path, tls: bool = True) -> None:
        """Prepare; certificates go into `folder`."""
        self.robots: bytes | int = 404
        """What /robots.txt answers: a file, or a status."""
        self.hits: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.requests: list[str] = []
        """The head of every request, as it came."""
        self.open = self.most_open = self.connections = self.canary_hits = 0
        self.times: list[float] = []
        self.ports: dict[str, int] = {}
        self._folder, self._tls = folder, tls
        self.ca_file = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hostile-web", daemon=True)

    def __enter__(self) -> "HostileWeb":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        return self

    def __exit__(self, *_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """The `host:port` that a test may allow."""
        return f"127.0.0.1:{self.ports['http']}"

    @property
    def endpoints(self) -> frozenset[str]:
        """Every port but the canary's."""
        return frozenset(f"127.0.0.1:{port}" for kind, port in self.ports.items() if kind != "canary")

    def url(self, path: str, kind: str = "http") -> str:
        """Return an address; `kind` is a port: http, canary, garbage, stall, or one of TLS_KINDS."""
        return f"{'http' if kind in ('http', 'canary') else 'https'}://127.0.0.1:{self.ports[kind]}{path}"

    def forget(self) -> None:
        """Start counting anew."""
        self.hits.clear()
        self.requests.clear()
        self.times.clear()
        self.most_open = self.connections = 0

    async def _listen(self) -> None:
        self._servers = [await self._start("http", self._serve), await self._start("canary", self._canary)]
        if self._tls:
            authority = Authority(self._folder)
            self.ca_file = authority.ca_file
            for kind in TLS_KINDS:
                self._servers.append(await self._start(kind, self._serve, authority.context(kind)))
            self._servers.append(await self._start("garbage", self._garbage))
            self._servers.append(await self._start("stall", self._stall))

    async def _start(self, kind: str, serve: Any, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=2048, limit=1 << 17)
        self.ports[kind] = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # A client that hangs up is the good outcome of most of these pages.
        with contextlib.suppress(OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            nth = 1
            while await self._answer(reader, writer, nth):
                nth += 1
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, nth: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ", 2)[1].partition("?")[0]
        visit = Visit(path, writer, self, nth)
        self.hits[path] += 1
        self.requests.append(head)
        self.times.append(time.monotonic())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if path == "/robots.txt":
                return await visit.robots(self.robots)
            if path in PICTURES:
                return await visit.picture(PICTURES[path]())
            if path.startswith("/link/"):
                return await link_page(visit)
            page = PAGES.get(path) or PAGES.get(path[: path.rfind("/") + 1])
            return await page(visit) if page else await visit.send(404, b"no such page")
        finally:
            self.open -= 1

    async def _canary(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.canary_hits += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        writer.close()

    async def _garbage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(range(256)) * 4)
        writer.close()

    async def _stall(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.sleep(60)
        writer.close()
