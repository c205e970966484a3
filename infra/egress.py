"""What may leave this machine: http(s) to public addresses, checked on every hop, bounded in time and bytes.

`Guard.open` has the shape of a urllib opener, so a library that fetches with
`urllib.request.urlopen` is governed by `Guard.install()`. Every failure becomes an
`EgressError` whose reason is from a closed list; remote text never gets through.
"""

import contextlib
import email.message
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

CHUNK = 1 << 16
RETRIED = frozenset({"rate_limited", "server_error", "connect"})


class EgressError(OSError):
    """A fetch that was refused or failed; `reason` is one word of a closed list."""

    def __init__(self, reason: str, status: int | None = None, retry_after: float = 0.0) -> None:
        """Keep the reason, the HTTP status when one came, and the wait that the server asked for."""
        super().__init__(f"egress={reason};status={status or 0}")
        self.reason, self.status, self.retry_after = reason, status, retry_after


def reason_in(message: str) -> tuple[str, int | None] | None:
    """Return (reason, HTTP status) from the text of an EgressError, None for any other text."""
    if not message.startswith("egress="):
        return None
    reason, _, status = message.removeprefix("egress=").partition(";status=")
    return reason, int(status) or None


def is_public(address: str) -> bool:
    """Say whether an IP address belongs to the public internet, seen through every wrapping of IPv4 in IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


class Guard:
    """The egress policy of one process."""

    def __init__(
        self,
        allow: frozenset[str] = frozenset(),
        timeout_seconds: float = 10.0,
        deadline_seconds: float = 20.0,
        max_bytes: int = 20_000_000,
        max_hops: int = 5,
        retries: int = 1,
        retry_after_cap_seconds: float = 2.0,
        inspect: Callable[[bytes], str | None] | None = None,
    ) -> None:
        """Set the limits.

        Args:
            allow: `host:port` exceptions to the public-address rule, such as a loopback test web.
            timeout_seconds: Per network read.
            deadline_seconds: For one whole fetch, all hops.
            max_bytes: Largest body.
            max_hops: Most redirects followed.
            retries: Further tries where trying again can help.
            retry_after_cap_seconds: Longest wait that a server may ask for.
            inspect: Looks at the body before anybody decodes it; returns a reason to refuse, or None.
        """
        self.allow, self.timeout, self.deadline = allow, timeout_seconds, deadline_seconds
        self.max_bytes, self.max_hops, self.retries = max_bytes, max_hops, retries
        self.retry_after_cap, self.inspect = retry_after_cap_seconds, inspect
        # One TLS context per process: building one costs 25 ms of CPU.
        self._tls = ssl.create_default_context()

    def install(self) -> None:
        """Make `urllib.request.urlopen` obey this guard in the whole process."""
        urllib.request.install_opener(self)  # type: ignore[arg-type]

    def check_url(self, url: str) -> tuple[str, str, int]:
        """Return (scheme, host, port) of an address that may be asked for.

        Raises:
            EgressError: `refused_scheme` or `bad_url`.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise EgressError("bad_url") from None
        if parts.scheme.lower() not in ("http", "https"):
            raise EgressError("refused_scheme")
        if not parts.hostname or parts.username is not None or any(ord(c) <= 32 or c == "\\" for c in url):
            raise EgressError("bad_url")
        return parts.scheme.lower(), parts.hostname, port or (443 if parts.scheme.lower() == "https" else 80)

    def connect(self, address: tuple[str, int], timeout: Any = None, source_address: Any = None) -> socket.socket:
        """Resolve once, check every answer, and connect to a checked address.

        Raises:
            EgressError: `dns`, `refused_address` or `connect`.
        """
        host, port = address
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise EgressError("dns") from None
        if f"{host}:{port}" not in self.allow and not all(is_public(str(a[4][0])) for a in answers):
            raise EgressError("refused_address")
        for family, kind, protocol, _, target in answers:
            raw = socket.socket(family, kind, protocol)
            raw.settimeout(self.timeout)
            try:
                raw.connect(target)
                return raw
            except TimeoutError:
                raw.close()
                raise EgressError("timeout") from None
            except OSError:
                raw.close()
        raise EgressError("connect")

    def open(self, request: Any, data: Any = None, timeout: Any = None) -> "Response":
        """Fetch an address and return its whole body.

        Raises:
            EgressError: Always with a reason from the closed list.
        """
        url = request.full_url if isinstance(request, urllib.request.Request) else str(request)
        headers = dict(request.header_items()) if isinstance(request, urllib.request.Request) else {}
        stop = time.monotonic() + self.deadline
        for attempt in range(self.retries + 1):
            try:
                return self._follow(url, headers, stop)
            except EgressError as error:
                wait = min(error.retry_after or 0.1, self.retry_after_cap)
                if attempt == self.retries or error.reason not in RETRIED or time.monotonic() + wait > stop:
                    raise
                time.sleep(wait)
        raise EgressError("lost")

    def _follow(self, url: str, headers: dict[str, str], stop: float) -> "Response":
        for _ in range(self.max_hops + 1):
            scheme, host, port = self.check_url(url)
            try:
                status, answer, body = self._one(scheme, host, port, url, headers, stop)
            except EgressError:
                raise
            except TimeoutError:
                raise EgressError("timeout") from None
            except ssl.SSLError:
                raise EgressError("tls") from None
            except (OSError, http.client.HTTPException, ValueError):
                raise EgressError("connect") from None
            if status in (301, 302, 303, 307, 308) and (target := answer.get("Location")):
                url = urljoin(url, target)
                continue
            if status != 200:
                raise EgressError(_reason(status), status, _seconds(answer.get("Retry-After")))
            if self.inspect and (refusal := self.inspect(body)):
                raise EgressError(refusal, status)
            return Response(body, answer)
        raise EgressError("bad_redirect")

    def _one(
        self, scheme: str, host: str, port: int, url: str, headers: dict[str, str], stop: float
    ) -> tuple[int, email.message.Message, bytes]:
        connection: http.client.HTTPConnection
        if scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        connection._create_connection = self.connect  # type: ignore[attr-defined]
        # Only a clock of our own bounds a server that drips its headers byte by byte.
        watchdog: threading.Timer | None = None
        try:
            parts = urlsplit(url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            path = quote(path, safe="/%?=&:;,+@!$'()*~[]")
            connection.request("GET", path, headers={**headers, "Accept-Encoding": "identity", "Connection": "close"})
            # The response takes the socket away from the connection, so it is remembered here.
            watchdog = threading.Timer(max(0.0, stop - time.monotonic()), self._cut, args=(connection.sock,))
            watchdog.daemon = True
            watchdog.start()
            response = connection.getresponse()
            if response.status != 200:
                return response.status, response.headers, b""
            if (size := response.headers.get("Content-Length")) and size.isdigit() and int(size) > self.max_bytes:
                raise EgressError("too_large", 200)
            pieces, total = [], 0
            while piece := response.read(CHUNK):
                pieces.append(piece)
                total += len(piece)
                if total > self.max_bytes:
                    raise EgressError("too_large", 200)
                if time.monotonic() > stop:
                    raise EgressError("timeout")
            if time.monotonic() > stop:
                raise EgressError("timeout")
            return response.status, response.headers, b"".join(pieces)
        except (OSError, http.client.HTTPException, AttributeError):
            if time.monotonic() >= stop:
                raise EgressError("timeout") from None
            raise
        finally:
            if watchdog:
                watchdog.cancel()
            connection.close()

    @staticmethod
    def _cut(stream: socket.socket) -> None:
        # It may have ended by itself a moment ago.
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)


class Response(io.BytesIO):
    """A whole body with its headers, as a urllib response looks to its reader."""

    def __init__(self, body: bytes, headers: email.message.Message) -> None:
        """Hold both."""
        super().__init__(body)
        self.headers = headers


def _reason(status: int) -> str:
    named = {404: "not_found", 410: "gone", 401: "forbidden", 403: "forbidden", 451: "forbidden", 429: "rate_limited"}
    return named.get(status) or ("server_error" if status >= 500 else "bad_status")


def _seconds(value: str | None) -> float:
    return float(value) if value and value.strip().isdigit() else 0.0
