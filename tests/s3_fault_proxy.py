"""A proxy before an S3 server that misbehaves as networks and busy stores do, drawn from a seed.

Kinds of fault:
    503, 500  an error in place of the answer; the server never saw the request
    reset     the connection breaks before the server saw the request
    lost      the server acts, and its answer is lost
    cut       the answer announces its whole length, and the connection breaks half-way
    short     the answer is a whole one of half the body and names no checksum: only our hash can tell
    flip      one byte of the answer is another one: the store's checksum tells
    slow      the answer comes late
"""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_SECONDS = 0.3
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and which requests it befalls."""

    kind: str
    probability: float = 1.0
    methods: tuple[str, ...] = ()
    contains: str = ""
    at_most: int = 1 << 30
    after: int = 0


class Faults:
    """What befalls the next request."""

    def __init__(self, seed: int, *faults: Fault) -> None:
        self.played: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._faults, self._random, self._lock = faults, random.Random(seed), threading.Lock()
        self._seen: Counter[Fault] = Counter()

    def next(self, method: str, path: str) -> str:
        with self._lock:
            self.requests[method] += 1
            for fault in self._faults:
                fits = (not fault.methods or method in fault.methods) and fault.contains in path
                if not fits:
                    continue
                self._seen[fault] += 1
                due = self._seen[fault] > fault.after and self.played[fault.kind] < fault.at_most
                if due and self._random.random() < fault.probability:
                    self.played[fault.kind] += 1
                    return fault.kind
            return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    backend: str

    def _serve(self) -> None:
        body = self._body()
        kind = self.faults.next(self.command, self.path)
        if kind == "slow":
            time.sleep(SLOW_SECONDS)
        if kind == "reset":
            return self._break()
        if kind in ("500", "503"):
            code = b"SlowDown" if kind == "503" else b"InternalError"
            return self._answer(int(kind), {"Content-Type": "application/xml"}, _ERROR % (code, code))
        status, headers, answer = self._forward(body)
        if kind == "lost":
            return self._break()
        half = answer[: len(answer) // 2] if kind in ("cut", "short") else answer
        if kind == "short":
            headers = {name: value for name, value in headers.items() if "checksum" not in name}
            headers["content-length"] = str(len(half))
        if kind == "flip":
            half = bytes([half[0] ^ 1]) + half[1:]
        self._answer(status, headers, half)
        if kind == "cut":
            self._break()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.backend, timeout=30)
        kept = {
            k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect", "connection")
        }
        try:
            connection.request(self.command, self.path, body or None, {**kept, "Content-Length": str(len(body))})
            reply = connection.getresponse()
            answer = reply.read()
            headers = {
                k.lower(): v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection")
            }
            return reply.status, headers, answer
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        lengths = {} if "content-length" in headers else {"Content-Length": str(len(body))}
        for name, value in {**headers, **lengths}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def _break(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: connections break on purpose."""


@contextmanager
def s3_fault_proxy(endpoint: str, faults: Faults) -> Iterator[str]:
    """Stand before an S3 server; yield the address to use in its place."""
    handler = type("Handler", (_Handler,), {"faults": faults, "backend": urlsplit(endpoint).netloc})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
