"""One HTTP/1.1 answer, read strictly: what could be framed in two ways is refused.

`http.client` takes two differing Content-Length headers, negative ones and broken chunks, reads headers
of any speed, and spends most of its time in the e-mail parser. Every read here is given the time that is left.
"""

import re
import socket
import ssl
import time
import zlib
from collections.abc import Iterator

from infra.egress_error import EgressError
from infra.http_head import MOST_HEADERS, Head, parse_head

MOST_HEADER_BYTES = 65_536
PIECE = 65_536
INFLATION = 100
MOST_CHUNKS = 100_000

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class Wire:
    """One connection, on which one request at a time is answered."""

    def __init__(self, sock: socket.socket, address: str, read_seconds: float, rate: float, grace: float) -> None:
        """Take a connected socket.

        Args:
            sock: Plain or TLS.
            address: The checked address that it leads to.
            read_seconds: Longest silence of the server.
            rate: Fewest bytes of body per second, once `grace` seconds of it are over; 0 for no bound.
            grace: How long a body may come slowly.
        """
        self.sock, self.address, self.idle_since = sock, address, 0.0
        self.reused = self.answering = self._cut = False
        self._read_seconds, self._rate, self._grace = read_seconds, rate, grace
        self._buffer = bytearray()

    @property
    def clean(self) -> bool:
        """True when nothing unread is left over, so that another answer may follow."""
        # Surplus that was deciphered together with the body is seen by no poll of the descriptor.
        deciphered = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        return not (self._cut or self._buffer or deciphered)

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def ask(self, request: bytes, stop: float) -> Head:
        """Send a request and return the head of its answer, past interim ones.

        Raises:
            EgressError: `bad_response`, or `connect` when the server hung up without a word.
            OSError: The connection broke; TimeoutError at `stop` or after too long a silence.
        """
        self.answering = False
        self._limit_time(stop)
        self.sock.sendall(request)
        for _ in range(5):
            head = self._head(stop)
            if head.status >= 200:
                return head
            if head.status == 101:
                break
        raise EgressError("bad_response")

    def body(self, head: Head, most: int, stop: float, cut: bool = False) -> bytes:
        """Return the body of an answer, inflated if it came as gzip all the same.

        Inflating costs nothing where nobody does it and saves pictures of servers that ignore
        `Accept-Encoding: identity`; it stops at `most` bytes and at 100 bytes out per byte in.

        Args:
            head: What came before it.
            most: Largest body.
            stop: When it must be there.
            cut: Return the first `most` bytes of a larger one; the connection is not clean then.

        Raises:
            EgressError: `too_large`, or `bad_response` where the framing lies.
            OSError: As in `ask`.
        """
        coding = (head.headers.get("content-encoding") or "identity").strip().lower()
        if coding not in ("identity", "", "gzip", "x-gzip"):
            raise EgressError("bad_response", head.status)
        length = head.length
        if length is not None and length > most:
            if not cut:
                raise EgressError("too_large", head.status)
            length, self._cut = most, True
        started = time.monotonic()
        pieces = self._chunks(most, stop, started, cut) if length == -1 else self._plain(length, stop, started)
        # One buffer: a million pieces of a byte in a list would take forty times their size.
        found = bytearray()
        for piece in pieces:
            found += piece
            if len(found) > most:
                if not cut:
                    raise EgressError("too_large", head.status)
                self._cut = True
                break
        body = bytes(found[:most])
        return _inflated(body, most, cut) if coding.endswith("gzip") and body else body

    def _limit_time(self, stop: float) -> None:
        left = stop - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(min(left, self._read_seconds))

    def _receive(self, stop: float, most: int = PIECE) -> bytes:
        self._limit_time(stop)
        piece = self.sock.recv(most)
        self.answering = self.answering or bool(piece)
        return piece

    def _keep_pace(self, received: int, started: float) -> None:
        seconds = time.monotonic() - started - self._grace
        if seconds > 0 and received < self._rate * seconds:
            raise TimeoutError

    def _head(self, stop: float) -> Head:
        searched = 0
        while not (end := _HEAD_END.search(self._buffer, max(0, searched - 4))):
            searched = len(self._buffer)
            if searched > MOST_HEADER_BYTES:
                raise EgressError("bad_response")
            piece = self._receive(stop)
            if not piece:
                raise EgressError("bad_response" if self.answering else "connect")
            self._buffer += piece
        if end.end() > MOST_HEADER_BYTES:
            raise EgressError("bad_response")
        lines = bytes(self._buffer[: end.start()]).split(b"\n")
        del self._buffer[: end.end()]
        return parse_head(lines)

    def _plain(self, length: int | None, stop: float, started: float) -> Iterator[bytes]:
        """Yield a body of known length, or one that ends with the connection."""
        first = bytes(self._buffer[:length])
        del self._buffer[: len(first)]
        received = len(first)
        if first:
            yield first
        while length is None or received < length:
            piece = self._receive(stop, PIECE if length is None else min(PIECE, length - received))
            if not piece:
                if length is None:
                    return
                raise EgressError("bad_response")
            received += len(piece)
            self._keep_pace(received, started)
            yield piece

    def _chunks(self, most: int, stop: float, started: float, cut: bool) -> Iterator[bytes]:
        """Yield the chunks of a body, each only once it is whole; where `cut`, end with a part of the last one."""
        received = 0
        for _ in range(MOST_CHUNKS):
            line = self._until_newline(256, stop)
            size = _CHUNK.fullmatch(line)
            if not size:
                raise EgressError("bad_response")
            wanted = int(size[1], 16)
            if not wanted:
                break
            last = received + wanted > most
            if last and not cut:
                raise EgressError("too_large", 200)
            needed = most - received if last else wanted + 2
            while len(self._buffer) < needed:
                self._more(stop)
                self._keep_pace(received + len(self._buffer), started)
            if last:
                self._cut = True
                yield bytes(self._buffer[:needed])
                return
            if self._buffer[wanted : wanted + 2] != b"\r\n":
                raise EgressError("bad_response")
            piece = bytes(self._buffer[:wanted])
            del self._buffer[: wanted + 2]
            received += wanted
            self._keep_pace(received, started)
            yield piece
        else:
            raise EgressError("bad_response")
        # Trailers, which nobody reads.
        for _ in range(MOST_HEADERS):
            if self._until_newline(8_192, stop) in (b"\r\n", b"\n"):
                return
        raise EgressError("bad_response")

    def _until_newline(self, most: int, stop: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= most:
            self._more(stop)
        if not 0 <= end < most:
            raise EgressError("bad_response")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _more(self, stop: float) -> None:
        piece = self._receive(stop)
        if not piece:
            raise EgressError("bad_response")
        self._buffer += piece


def _inflated(body: bytes, most: int, cut: bool) -> bytes:
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    limit = min(most, max(1_000_000, INFLATION * len(body)))
    try:
        found = engine.decompress(body, limit + 1)
    except zlib.error:
        raise EgressError("bad_response", 200) from None
    if cut:
        return found[:limit]
    if len(found) > limit:
        raise EgressError("too_large", 200)
    if not engine.eof or engine.unused_data:
        raise EgressError("bad_response", 200)
    return found
