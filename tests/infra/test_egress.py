import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from infra.addresses import is_public
from infra.egress import EgressError, Guard, reason_in


class Hostile(BaseHTTPRequestHandler):
    seen: list[str] = []  # noqa: RUF012 - shared by all connections on purpose

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        elif self.path == "/busy" and self.seen.count("/busy") == 1:
            self.send_response(429)
            self.send_header("Retry-After", "86400")
            self.end_headers()
        elif self.path.startswith("/status/"):
            self.send_response(int(self.path.rpartition("/")[2]))
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"body")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{found.server_address[1]}"
    found.shutdown()


def guard(server: str, **limits: Any) -> Guard:
    return Guard(allow=frozenset({server}), **{"timeout_seconds": 2, "deadline_seconds": 2, "retries": 0, **limits})


def reason(guard: Guard, url: str) -> str:
    with pytest.raises(EgressError) as error:
        guard.open(url)
    return error.value.reason


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "FILE:///etc/passwd", "ftp://a/b", "data:image/png;base64,AAAA", "gopher://a"]
)
def test_other_schemes_are_refused(server: str, url: str) -> None:
    assert reason(guard(server), url) == "refused_scheme"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_every_spelling_of_this_machine_is_refused(server: str, host: str) -> None:
    before = len(Hostile.seen)
    port = server.rpartition(":")[2]
    assert reason(Guard(), f"http://{host}:{port}/x") in ("refused_address", "dns")
    assert len(Hostile.seen) == before


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "http://10.0.0.1/", "file:///etc/passwd", "http://[::1]:1/"]
)
def test_a_redirect_is_checked_like_any_address(server: str, target: str) -> None:
    assert reason(guard(server), f"http://{server}/to/{target}") in ("refused_address", "refused_scheme")


def test_the_exception_covers_one_port_only(server: str) -> None:
    assert guard(server).open(f"http://{server}/x").read() == b"body"
    assert reason(guard(server), "http://127.0.0.1:1/x") == "refused_address"


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (404, "not_found"),
        (410, "gone"),
        (403, "forbidden"),
        (451, "forbidden"),
        (503, "server_error"),
        (206, "bad_status"),
    ],
)
def test_statuses_have_words(server: str, status: int, word: str) -> None:
    with pytest.raises(EgressError) as error:
        guard(server).open(f"http://{server}/status/{status}")
    assert (error.value.reason, error.value.status) == (word, status)
    assert reason_in(str(error.value)) == (word, status)


def test_a_dripping_server_is_cut_at_the_deadline(server: str) -> None:
    started = time.monotonic()
    assert reason(guard(server, deadline_seconds=1), f"http://{server}/drip") == "timeout"
    assert time.monotonic() - started < 5


def test_an_endless_body_is_cut_at_the_cap(server: str) -> None:
    assert reason(guard(server, max_bytes=200_000), f"http://{server}/endless") == "too_large"


def test_a_redirect_loop_ends(server: str) -> None:
    assert reason(guard(server), f"http://{server}/loop") == "bad_redirect"


def test_an_absurd_retry_after_is_not_slept(server: str) -> None:
    started = time.monotonic()
    found = guard(server, retries=1, deadline_seconds=5, retry_after_cap_seconds=0.2).open(f"http://{server}/busy")
    assert found.read() == b"body" and time.monotonic() - started < 4


def test_the_body_can_be_inspected_before_anybody_decodes_it(server: str) -> None:
    assert reason(guard(server, inspect=lambda body: "not_image"), f"http://{server}/x") == "not_image"


@pytest.mark.parametrize(
    "url", ["http://user@host/x", "http://", "http://a b/", "http://host:99999/", "http://a\\b/"]
)
def test_malformed_addresses_are_refused(server: str, url: str) -> None:
    assert reason(guard(server), url) == "bad_url"


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("10.0.0.1", False), ("100.64.0.1", False), ("169.254.169.254", False), ("224.0.0.1", False),
     ("::ffff:10.0.0.1", False), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("2606:4700::1", True)],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_closed_port_is_a_reason_too() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert reason(Guard(allow=frozenset({f"127.0.0.1:{port}"}), retries=0), f"http://127.0.0.1:{port}/") == "connect"
