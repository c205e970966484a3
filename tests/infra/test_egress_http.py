import contextlib
import gzip
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from infra.addresses import parse
from infra.connections import Connections
from infra.egress_error import EgressError
from infra.http1 import Wire
from infra.http_head import Head

OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def wire(*pieces: bytes, pause: float = 0.0, rate: float = 0.0, grace: float = 0.0) -> Iterator[Wire]:
    """A connection on which these bytes come, piece by piece, and then the end."""
    here, there = socket.socketpair()

    def speak() -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                there.sendall(piece)
                time.sleep(pause)
            there.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=speak)
    with there:
        thread.start()
        with here:
            yield Wire(here, "", 5.0, rate, grace)
        thread.join()


def read(*pieces: bytes, most: int = 100_000, **how: float) -> tuple[Head, bytes]:
    with wire(*pieces, **how) as found:
        stop = time.monotonic() + 5
        head = found.ask(b"GET / HTTP/1.1\r\n\r\n", stop)
        return head, found.body(head, most, stop)


@pytest.mark.parametrize(
    ("answer", "body", "keeps_open"),
    [
        (OK + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
        (OK + b"content-length:2\r\nConnection: Close\r\n\r\nhi", b"hi", False),
        (b"HTTP/1.1 200\nContent-Length: 2\n\nhi", b"hi", True),
        (OK + b"\r\nhi", b"hi", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", b"hi", True),
        (OK + b"Transfer-Encoding: Chunked\r\n\r\n1;a=b\r\nh\r\n01\r\ni\r\n0\r\nX: y\r\n\r\n", b"hi", True),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", b"hi", True),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hi", mtime=0), b"hi", False),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b"", True),
    ],
)
def test_whole_answers(answer: bytes, body: bytes, keeps_open: bool) -> None:
    head, found = read(answer)
    assert (found, head.keeps_open) == (body, keeps_open)
    assert read(*(answer[i : i + 1] for i in range(len(answer))))[1] == body, "however its bytes come"


def test_fields() -> None:
    head, _ = read(OK + b"X-A:  \xe9 b \r\nx-a: c\r\nEmpty:\r\nContent-Length: 0\r\n\r\n")
    assert head.headers.get_all("X-a") == ["\u00e9 b", "c"] and head.headers.get("EMPTY") == ""
    assert head.headers.get("none") is None and head.headers.get_all("none", ["d"]) == ["d"]
    assert list(head.headers) == ["x-a", "x-a", "empty", "content-length"]


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"X:" + b" " * 60_000 + b"\0", None), (b"X:" + b" \t" * 30_000, ""), (b"X: a" + b" " * 60_000 + b"a", None)],
)
def test_a_long_field_takes_no_time(field: bytes, value: str | None) -> None:
    """Matching a field holds the lock of the whole process, so all of its fetches would stand still."""
    started = time.process_time()
    if field.endswith(b"\0"):
        with pytest.raises(EgressError, match="bad_response"):
            read(OK + field + b"\r\nContent-Length: 0\r\n\r\n")
    else:
        head, _ = read(OK + field + b"\r\nContent-Length: 0\r\n\r\n")
        assert head.headers.get("x") == field.removeprefix(b"X:").strip(b" \t").decode()
    assert time.process_time() - started < 1


def test_what_follows_an_answer_is_seen() -> None:
    with wire(OK + b"Content-Length: 2\r\n\r\nhi" + OK) as found:
        head = found.ask(b"", time.monotonic() + 5)
        assert found.body(head, 10, time.monotonic() + 5) == b"hi" and not found.clean


@pytest.mark.parametrize(("size", "reason"), [(100, None), (101, "too_large")])
@pytest.mark.parametrize("framing", ["length", "chunks", "end", "gzip"])
def test_the_cap_is_inclusive(framing: str, size: int, reason: str | None) -> None:
    body = bytes(size)
    answer = {
        "length": b"Content-Length: %d\r\n\r\n%b" % (size, body),
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n32\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (body[:50], size - 50, body[50:]),
        "end": b"\r\n" + body,
        "gzip": b"Content-Encoding: x-gzip\r\n\r\n" + gzip.compress(body),
    }[framing]
    if reason is None:
        assert read(OK + answer, most=100)[1] == body
        return
    with pytest.raises(EgressError) as error:
        read(OK + answer, most=100)
    assert error.value.reason == reason


@pytest.mark.parametrize("size", [99, 100, 101, 300])
@pytest.mark.parametrize("framing", ["length", "chunks", "end", "gzip"])
def test_a_body_is_cut_where_that_is_asked_for(framing: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    packed = gzip.compress(body)
    answer = {
        "length": b"Content-Length: %d\r\n\r\n%b" % (size, body),
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n1\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (body[:1], size - 1, body[1:]),
        "end": b"\r\n" + body,
        "gzip": b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed),
    }[framing]
    with wire(OK + answer) as found:
        stop = time.monotonic() + 5
        begun = found.body(found.ask(b"", stop), 100, stop, cut=True)
        # Packed, these bytes are 20 or so more, and so fewer of them lie within the cap.
        assert body.startswith(begun) and len(begun) >= min(size, 100) - (framing == "gzip") * 30
        assert found.clean == (size <= 100 and framing != "gzip"), "the rest of a cut body is no next answer"


def test_a_body_is_not_cut_into_crumbs() -> None:
    with pytest.raises(EgressError) as error:
        read(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 110_000, most=20_000_000)
    assert error.value.reason == "bad_response"


def test_inflation_has_a_ratio() -> None:
    with pytest.raises(EgressError) as error:
        read(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(3_000_000)), most=20_000_000)
    assert error.value.reason == "too_large"


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"hi", mtime=0)[:-3], gzip.compress(b"hi", mtime=0) + b"more", b"\x1f\x8bnonsense"]
)
def test_broken_gzip(packed: bytes) -> None:
    with pytest.raises(EgressError) as error:
        read(OK + b"Content-Encoding: gzip\r\n\r\n" + packed)
    assert error.value.reason == "bad_response"


def test_a_slow_body_is_given_up_and_a_slow_start_is_not() -> None:
    pieces = [OK + b"Content-Length: 40\r\n\r\n", *[b"x"] * 40]
    with pytest.raises(TimeoutError):
        read(*pieces, pause=0.02, rate=1_000, grace=0.2)
    assert len(read(*pieces, pause=0.005, rate=1_000, grace=5)[1]) == 40


def test_nothing_but_our_own_errors_leaves_the_reader() -> None:
    """Ten thousand broken answers, among them some that are whole; the random numbers are always the same."""
    chance, whole, refused = random.Random(7), 0, 0
    seeds = [
        OK + b"Content-Length: 12\r\nX-A: b\r\n\r\nhello, world",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 32\r\n\r\n" + gzip.compress(b"hello, world", mtime=0),
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nhello, world",
    ]
    tokens = [
        b"\r\n",
        b"\n",
        b"\r",
        b":",
        b" ",
        b"\0",
        b"0",
        b"-1",
        b"ffffffff",
        b"Content-Length: 1\r\n",
        b"\xff",
        b";",
    ]
    for _ in range(10_000):
        answer = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(answer))
            answer[at : at + chance.choice([0, 0, 1, 8])] = chance.choice([*tokens, chance.randbytes(2)])
        here, there = socket.socketpair()
        with here, there:
            there.sendall(answer)
            there.shutdown(socket.SHUT_WR)
            found, stop = Wire(here, "", 5.0, 0.0, 0.0), time.monotonic() + 5
            try:
                head = found.ask(b"", stop)
                assert len(found.body(head, 1_000, stop)) <= 1_000
                whole += 1
            except EgressError as error:
                assert error.reason in ("bad_response", "too_large", "connect")
                refused += 1
    assert whole > 2_000 and refused > 2_000


def test_time_is_over_for_every_step() -> None:
    with wire(OK, pause=0.3) as found:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            found.ask(b"GET", started + 0.1)
        with pytest.raises(TimeoutError):
            found.ask(b"GET", started)
    assert issubclass(ssl.SSLError, OSError), "so that a broken TLS connection is caught as any broken one"


def test_idle_connections_are_few_and_young() -> None:
    target, stop = parse("http://a.test/"), time.monotonic() + 5
    pairs = [socket.socketpair() for _ in range(4)]
    wires = [Wire(here, "8.8.8.8", 5.0, 0.0, 0.0) for here, _ in pairs]
    pool = Connections(idle_seconds=0.2, most_idle=2)
    for wire in wires[:3]:
        pool.give_back(target, wire)
    assert [wire.sock.fileno() >= 0 for wire in wires[:3]] == [False, True, True], "the oldest had to go"
    assert pool.take(target, ("8.8.8.8",), stop) is wires[2], "the youngest is the likeliest to live"
    time.sleep(0.25)
    pool.give_back(target, wires[3])
    assert [wire.sock.fileno() >= 0 for wire in wires] == [False, False, True, True], (
        "and the second was idle too long"
    )
    pairs[3][1].sendall(b"HTTP/1.1 200 OK\r\n\r\nan answer to no question")
    with pytest.raises(EgressError):
        pool.take(target, ("8.8.8.8",), time.monotonic())
    assert wires[3].sock.fileno() < 0, "nobody will take that for the answer to another one"
    pool.give_back(target, wires[2])
    pool.close()
    assert wires[2].sock.fileno() < 0
    for _, there in pairs:
        there.close()
