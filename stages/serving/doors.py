"""Who may come in, and how much they may bring: token, host, origin and size, before anything else is asked.

Two ways in. Programs show the token in the `Authorization` header. A browser shows it once, in the address that
the terminal prints or in a form that no history and no log keeps; from then on it has a cookie that pages of other
sites cannot send along.
"""

import asyncio
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from stages.serving.refusal import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API, HEALTH, COOKIE = "/v1/", "/healthz", "internvl-serve"
DRAINED = 4
"""A body that is too large is read on, and thrown away, up to so many times the limit: who is still sending hears
no answer."""
SILENCE_SECONDS = 30.0
FORM_BYTES, FORM = 4096, "application/x-www-form-urlencoded"
_ELSEWHERE = re.compile(r"/(?:file|proxy)=\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)
"""A path by which the toolkit of the page would fetch from another server; its own files have no scheme."""

# The toolkit of the page builds its scripts and styles at run time; all that it loads comes from here.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

_LOGIN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Token needed</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.25rem;color:#1c2530}
input,button{font:inherit;padding:.5rem .75rem;border:1px solid #9aa7b4;border-radius:.5rem;background:inherit;
color:inherit}input{width:100%%;box-sizing:border-box;margin:.5rem 0}button{background:#0e6b80;color:#fff;border:0}
@media(prefers-color-scheme:dark){body{background:#0f1419;color:#e8edf2}button{background:#1b8ba3}}
</style></head><body><h1>A token is needed</h1><p>%s</p><form action="" method="post">
<label>Token <input name="token" type="password" autocomplete="off" required></label>
<button>Come in</button></form></body></html>"""
_ASK = "The terminal that runs <code>internvl serve</code> shows an address with the token in it: open that one."
_WRONG = "That is not this server's token; it is new each time the server starts. "


@dataclass
class Doors:
    """An ASGI application in front of another one.

    Attributes:
        app: What is behind.
        token: What whoever comes in has to know.
        hosts: Values of the `Host` header that are ours; None takes any, for a server that others may reach.
            A foreign name that leads to this address is a page of another site that tries to pass for ours.
        body_bytes: Largest request.
        cookie: Its name; browsers send a cookie to all ports of a host, so two servers need two names.
    """

    app: App
    token: str
    hosts: frozenset[str] | None
    body_bytes: int
    cookie: str = COOKIE
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path: str = scope["path"]
        try:
            self._host(headers)
            if path != HEALTH:
                if path.startswith(API):
                    self._bearer(headers)
                elif answer := await self._page(scope, receive, headers):
                    return await answer(send)
        except Refused as refused:
            return await _json(send, refused)
        await self._inside(scope, receive, send, headers)

    def _host(self, headers: dict[str, str]) -> None:
        if self.hosts is not None and headers.get("host", "").lower() not in self.hosts:
            raise Refused(
                403, f"this server is {' or '.join(sorted(self.hosts))}, not {headers.get('host', '')[:80]!r}; "
                "open it by one of these names", code="wrong_host",
            )  # fmt: skip

    def _bearer(self, headers: dict[str, str]) -> None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not _same(given.strip(), self.token):
            said = "this token is not the server's" if given else "no token was sent"
            raise Refused(
                401, f"{said}; send the one that `internvl serve` printed: Authorization: Bearer TOKEN, or "
                "api_key=TOKEN in OpenAI's client", code="invalid_api_key",
            )  # fmt: skip

    async def _page(
        self, scope: Scope, receive: Receive, headers: dict[str, str]
    ) -> Callable[[Send], Awaitable[None]] | None:
        """Return the answer to a browser that may not come in yet, None for one that may."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        inside = _same(_cookie(headers.get("cookie", ""), self.cookie), self._session)
        reading = scope["method"] in ("GET", "HEAD")
        shown = query if reading else []
        if not inside and scope["method"] == "POST" and headers.get("content-type", "").startswith(FORM):
            shown = await _form(receive)
        if token := next((value for name, value in shown if name == "token"), None):
            if not _same(token, self.token):
                return lambda send: _html(send, 401, _LOGIN % (_WRONG + _ASK))
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            return lambda send: self._welcome(send, scope["path"] + (f"?{rest}" if rest else ""))
        if not inside:
            return lambda send: _html(send, 401, _LOGIN % _ASK)
        if _ELSEWHERE.search(unquote(scope["path"])):
            raise Refused(403, "this page fetches nothing from elsewhere; upload the picture", code="elsewhere")
        if not reading:
            self._origin(headers)
        return None

    def _origin(self, headers: dict[str, str]) -> None:
        """Refuse what a page of another site sends; browsers say where a request comes from."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        ours = {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}
        if (origin is not None and origin not in ours) or site not in (None, "same-origin", "none"):
            raise Refused(403, "pages of other sites cannot send anything here; use this page", code="cross_site")

    async def _welcome(self, send: Send, target: str) -> None:
        cookie = f"{self.cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"
        # A path that begins with two slashes would be another host's.
        target = "/" + target.lstrip("/\\")
        await _answer(send, 303, b"", {"location": target, "set-cookie": cookie, "cache-control": "no-store"})

    async def _inside(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Pass a request on, its body counted while it comes, and close the headers of the answer."""
        body = _Body(receive, self.body_bytes, headers.get("content-length"))
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if body.refused is not None and not started:
                return
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _closed(message["headers"], scope["path"])}
            await send(message)

        try:
            await self.app(scope, body.receive, guarded)
        except Exception:
            if body.refused is None or started:
                raise
        if body.refused is not None and not started:
            await body.drain()
            await _json(send, body.refused)


class _Body:
    """A request's body on its way in: counted piece by piece, cut where it is too large or stops coming."""

    def __init__(self, receive: Receive, most: int, declared: str | None) -> None:
        self._receive, self._most, self._read, self._ended = receive, most, 0, False
        self._declared = int(declared) if declared is not None and declared.isdecimal() else 0
        self.refused: Refused | None = None

    async def receive(self) -> Message:
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


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that tells nothing about where two secrets differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


async def _form(receive: Receive) -> list[tuple[str, str]]:
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


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _closed(headers: Iterable[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers without leave for other sites, and with our own rules."""
    ours = {**SAFE_HEADERS, **({"cache-control": "no-store"} if path.startswith(API) else {})}
    kept = [
        (name, value)
        for name, value in headers
        if not name.lower().startswith(b"access-control-") and name.lower().decode("latin-1") not in ours
    ]
    return kept + [(name.encode(), value.encode()) for name, value in ours.items()]


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    given = {**SAFE_HEADERS, **headers, "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _json(send: Send, refused: Refused) -> None:
    await _answer(
        send, refused.status, json.dumps(refused.body).encode(),
        {"content-type": "application/json", "cache-control": "no-store", **refused.headers},
    )  # fmt: skip


async def _html(send: Send, status: int, page: str) -> None:
    await _answer(
        send, status, page.encode(), {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    )
