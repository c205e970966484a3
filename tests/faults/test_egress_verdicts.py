"""Every hostile address ends in the word that its table gives it, in time, and nobody ever reaches the canary."""

import time
from collections.abc import Iterator

import pytest
from asking import guard, verdict
from hostile_pages import PAGES
from hostile_pictures import PICTURES
from hostile_web import HostileWeb

from infra.egress import REASONS
from stages.outcome import Outcome

SCHEMES = [
    "file:///etc/passwd", "FILE:///etc/passwd", "file://localhost/etc/passwd", "ftp://127.0.0.1/x",
    "FTP://127.0.0.1/x", "data:image/png;base64,AAAA", "gopher://127.0.0.1/x", "javascript:alert(1)",
    "jar:http://127.0.0.1/!x", "about:blank", "s3://a/b", "//127.0.0.1/x", "/etc/passwd",
]  # fmt: skip

PRIVATE = [
    "127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
    "017700000001", "127.1", "127.0.1", "0", "0.0.0.0", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::]", "[fe80::1]", "[fd00:ec2::254]", "169.254.169.254", "10.0.0.1", "172.16.0.1",
    "192.168.1.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1",
    "255.255.255.255", "１２７.0.0.1", "⑫7.0.0.1",
]  # fmt: skip

BAD_URLS = ["http://", "http:///x", "http://user@host/x", "http://user:word@host/x", "http://@host/", "http://a b/",
            "http://host:99999/", "http://host:x/", "http://a\\b/", "http://a\r\nHost: b/", "http://[::1", "http://a..b/",
            "http://[fe80::1%25eth0]/", "http://%31/", "http://h/\x00", "http://h/\udcff", " http://h/",
            "http://" + "a" * 64 + ".test/", "http://h/" + "x" * 70_000]  # fmt: skip

VERDICTS: dict[str, str | None] = {
    "/redirect/loop": "bad_redirect",
    "/redirect/there": "bad_redirect",
    "/redirect/back": "bad_redirect",
    "/redirect/missing": "bad_redirect",
    "/redirect/empty": "bad_redirect",
    "/redirect/bad": "bad_redirect",
    "/redirect/userinfo": "bad_redirect",
    "/redirect/relative": None,
    "/redirect/utf8": None,
    "/hops/5": None,
    "/hops/6": "bad_redirect",
    "/hops/30": "bad_redirect",
    "/link/file:///etc/passwd": "refused_scheme",
    "/link/ftp://127.0.0.1:CANARY/": "refused_scheme",
    "/link/data:image/png;base64,AAAA": "refused_scheme",
    "/link/http://127.0.0.1:CANARY/": "refused_address",
    "/link/http://[::ffff:127.0.0.1]:CANARY/": "refused_address",
    "/link/http://2130706433:CANARY/": "refused_address",
    "/link/http://0177.0.0.1:CANARY/": "refused_address",
    "/link/http://127.1:CANARY/": "refused_address",
    "/link/http://localhost:CANARY/": "refused_address",
    "/link/http://169.254.169.254/latest/meta-data": "refused_address",
    "/link///127.0.0.1:CANARY/": "refused_address",
    **dict.fromkeys((path for path in PAGES if path.startswith("/slow/") and path[-1] != "/"), "timeout"),
    "/endless/body": "too_large",
    "/endless/chunks": "too_large",
    "/endless/one_chunk": "too_large",
    "/endless/promised": "too_large",
    "/endless/headers": "bad_response",
    "/endless/one_header": "bad_response",
    "/endless/trailers": "bad_response",
    "/endless/chunk_line": "bad_response",
    **dict.fromkeys((path for path in PAGES if path.startswith(("/lying/", "/chunked/"))), "bad_response"),
    "/chunked/whole": None,
    "/close/silent": "connect",
    "/close/in_head": "bad_response",
    "/close/reset": "connect",
    "/close/no_length": None,
    "/status/404": "not_found",
    "/status/410": "gone",
    **{f"/status/{code}": "forbidden" for code in (401, 403, 451)},
    "/status/429": "rate_limited",
    **{f"/status/{code}": "server_error" for code in (500, 502, 503, 504)},
    **{f"/status/{code}": "bad_status" for code in (204, 206, 300, 304, 400, 402, 407, 418, 999, "206_whole")},
    "/ratelimit/day": "rate_limited",
    "/bomb/gzip": "too_large",
    "/gzip": None,
    **dict.fromkeys((path for path in PAGES if path.startswith("/type/")), None),
    **dict.fromkeys((path for path in PAGES if path.startswith("/robots/")), "opt_out"),
    "/robots/otherbot": None,
    "/robots/other_words": None,
    "/tdm/1": "opt_out",
    "/tdm/0": None,
    # A bomb of pixels is a small body: whoever decodes it must look at its header first.
    **dict.fromkeys((path for path in PICTURES if path.count("1bit") == 0), None),
}

TLS = {"good": None, "self_signed": "tls", "wrong_host": "tls", "expired": "tls", "not_yet": "tls", "garbage": "tls",
       "stall": "timeout"}  # fmt: skip

SHORT = 1.0


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWeb]:
    with HostileWeb(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture(autouse=True)
def nobody_reaches_the_canary(web: HostileWeb) -> Iterator[None]:
    yield
    assert web.canary_hits == 0


def test_the_words_are_the_outcomes() -> None:
    assert {str(outcome) for outcome in Outcome} >= REASONS


@pytest.mark.parametrize("url", SCHEMES)
def test_other_schemes(web: HostileWeb, url: str) -> None:
    assert verdict(guard(web), url) == "refused_scheme"


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_in_every_spelling(web: HostileWeb, host: str) -> None:
    assert verdict(guard(web), f"http://{host}:{web.ports['canary']}/") == "refused_address"


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: repr(url[:30]))
def test_what_is_no_address(web: HostileWeb, url: str) -> None:
    assert verdict(guard(web), url) == "bad_url"


@pytest.mark.parametrize("port", [22, 25, 6667])
def test_ports_of_other_protocols(web: HostileWeb, port: int) -> None:
    assert verdict(guard(web, lookup=lambda host: ["93.184.216.34"]), f"http://a.test:{port}/") == "refused_address"


@pytest.mark.parametrize(("path", "expected"), VERDICTS.items())
def test_verdicts(web: HostileWeb, path: str, expected: str | None) -> None:
    # Only what never ends meets the short deadline, so that a busy machine changes no other verdict.
    seconds = SHORT if expected == "timeout" else 20.0
    started = time.monotonic()
    assert verdict(guard(web, deadline_seconds=seconds), web.url(path)) == expected
    assert time.monotonic() - started < seconds + 2


def test_no_page_is_without_a_verdict() -> None:
    one_by_one = {"/swap"} | {p for p in PAGES if p.startswith(("/ratelimit/", "/flaky/"))}
    assert {path for path in PAGES if path[-1] != "/"} - set(VERDICTS) - one_by_one == set()


@pytest.mark.parametrize(("kind", "expected"), TLS.items())
def test_certificates(web: HostileWeb, kind: str, expected: str | None) -> None:
    seconds = SHORT if expected == "timeout" else 20.0
    assert verdict(guard(web, deadline_seconds=seconds), web.url("/picture/jpeg", kind)) == expected


def test_an_authority_of_our_own_is_trusted_only_where_it_is_named(web: HostileWeb) -> None:
    assert verdict(guard(web, ca_file=None), web.url("/picture/jpeg", "good")) == "tls"
