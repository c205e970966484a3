"""Who may come in, and how much they may bring: token, host, origin and size, before anything else is asked.

Two ways in. Programs show the token in the `Authorization` header. A browser shows it once, in the address that
the terminal prints or in a form that no history and no log keeps; from then on it has a cookie that pages of other
sites cannot send along.
"""

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote, urlencode

from stages.serving.asgi import App, Message, Receive, Scope, Send
from stages.serving.bodies import FORM, Body, form_of
from stages.serving.door_answers import API, ASK, LOGIN, WRONG, answer, as_html, as_json, closed
from stages.serving.public_url import PublicUrl
from stages.serving.refusal import Refused

HEALTH, COOKIE = "/healthz", "internvl-serve"
_ELSEWHERE = re.compile(r"/(?:file|proxy)=\s*[a-z][a-z0-9+.-]*:", re.IGNORECASE)
"""A path by which the toolkit of the page would fetch from another server; its own files have no scheme."""


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
        public: Where a proxy in front lets others in, who then send what its page sends.
    """

    app: App
    token: str
    hosts: frozenset[str] | None
    body_bytes: int
    cookie: str = COOKIE
    public: PublicUrl | None = None
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.public is not None:
            raw = scope.get("raw_path", b"").decode("latin-1")
            path, raw = (self.public.inside(each) for each in (scope["path"], raw))
            scope = {**scope, "path": path, "raw_path": raw.encode("latin-1")}
        path = scope["path"]
        try:
            self._host(headers)
            if not path:  # the page's own addresses are told from a slash on
                return await self._to(send, scope, "", 308)
            if path != HEALTH:
                if path.startswith(API):
                    self._bearer(headers)
                elif reply := await self._page(scope, receive, headers):
                    return await reply(send)
        except Refused as refused:
            return await as_json(send, refused)
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
            shown = await form_of(receive)
        if token := next((value for name, value in shown if name == "token"), None):
            if not _same(token, self.token):
                return lambda send: as_html(send, 401, LOGIN % (WRONG + ASK))
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            return lambda send: self._welcome(send, {**scope, "query_string": rest.encode()})
        if not inside:
            return lambda send: as_html(send, 401, LOGIN % ASK)
        if _ELSEWHERE.search(unquote(scope["path"])):
            raise Refused(403, "this page fetches nothing from elsewhere; upload the picture", code="elsewhere")
        if not reading:
            self._origin(headers)
        return None

    def _origin(self, headers: dict[str, str]) -> None:
        """Refuse what a page of another site sends; browsers say where a request comes from."""
        origin, site, host = headers.get("origin"), headers.get("sec-fetch-site"), headers.get("host", "")
        ours = {f"{scheme}://{host}" for scheme in ("http", "https")}
        if self.public is not None:  # a proxy may pass on the name by which it was asked, or the one that it asks
            ours = {self.public.origin} | (set() if host.lower() == self.public.host else ours)
        if (origin is not None and origin not in ours) or site not in (None, "same-origin", "none"):
            raise Refused(403, "pages of other sites cannot send anything here; use this page", code="cross_site")

    async def _welcome(self, send: Send, scope: Scope) -> None:
        prefix, scheme = (self.public.prefix, self.public.scheme) if self.public else ("", "http")
        secure = "; Secure" if scheme == "https" else ""
        cookie = f"{self.cookie}={self._session}; Path={prefix or '/'}; HttpOnly; SameSite=Strict{secure}"
        await self._to(send, scope, scope["path"], 303, {"set-cookie": cookie})

    async def _to(
        self, send: Send, scope: Scope, path: str, status: int, headers: dict[str, str] | None = None
    ) -> None:
        """Send a browser to a path of ours, with the query of its request."""
        query = scope["query_string"].decode("latin-1")
        # A path that begins with two slashes would be another host's.
        target = f"{self.public.prefix if self.public else ''}/" + path.lstrip("/\\") + (f"?{query}" if query else "")
        await answer(send, status, b"", {"location": target, "cache-control": "no-store", **(headers or {})})

    async def _inside(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Pass a request on, its body counted while it comes, and close the headers of the answer."""
        body = Body(receive, self.body_bytes, headers.get("content-length"))
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if body.refused is not None and not started:
                return
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": closed(message["headers"], scope["path"])}
            await send(message)

        try:
            await self.app(scope, body.receive, guarded)
        except Exception:
            if body.refused is None or started:
                raise
        if body.refused is not None and not started:
            await body.drain()
            await as_json(send, body.refused)


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that tells nothing about where two secrets differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
