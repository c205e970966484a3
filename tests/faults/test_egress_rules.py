"""What no table of addresses can say: rebinding names, redirects that weaken, tries, waits, the environment."""

import io
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import guard, verdict
from hostile_pages import gzip_bomb
from hostile_pictures import PICTURES
from hostile_web import HostileWeb
from PIL import Image

import infra.connections
from infra.egress import EgressError

SHORT = 1.0


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWeb]:
    with HostileWeb(tmp_path_factory.mktemp("hostile")) as found:
        yield found


@pytest.fixture(autouse=True)
def nobody_reaches_the_canary(web: HostileWeb) -> Iterator[None]:
    yield
    assert web.canary_hits == 0


def test_nothing_falls_back_from_https(web: HostileWeb) -> None:
    away = web.url(f"/link/{web.url('/picture/jpeg')}", "good")
    assert verdict(guard(web), away) == "bad_redirect"
    assert verdict(guard(web, allow_downgrade=True), away) is None


def test_a_name_is_resolved_once_and_its_checked_address_is_the_one_that_is_asked(
    web: HostileWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebinding name: public when it is checked, private when it is asked for again."""
    answers, dialled = iter([["93.184.216.34"], ["127.0.0.1"]]), []

    def dial(address: str, port: int, seconds: float) -> socket.socket:
        dialled.append((address, port))
        return socket.create_connection(("127.0.0.1", web.ports["http"]), seconds)

    monkeypatch.setattr(infra.connections, "dial", dial)
    found = guard(web, lookup=lambda host: next(answers)).fetch("http://rebind.test/picture/jpeg")
    assert found.body == PICTURES["/picture/jpeg"]()
    assert dialled == [("93.184.216.34", 80)]
    assert "Host: rebind.test\r\n" in web.requests[-1]


@pytest.mark.parametrize(
    "answers",
    [["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["169.254.169.254"], ["fd00:ec2::254"]],
)
def test_one_private_answer_is_enough_to_refuse_a_name(web: HostileWeb, answers: list[str]) -> None:
    assert verdict(guard(web, lookup=lambda host: answers), "http://mixed.test/") == "refused_address"


@pytest.mark.parametrize("answers", [[], OSError, UnicodeError])
def test_a_name_without_an_address(web: HostileWeb, answers: Any) -> None:
    def lookup(host: str) -> list[str]:
        if isinstance(answers, list):
            return answers
        raise answers

    assert verdict(guard(web, lookup=lookup), "http://nowhere.test/") == "dns"


def test_a_name_server_that_hangs_holds_nobody(web: HostileWeb) -> None:
    release, started = threading.Event(), time.monotonic()

    def lookup(host: str) -> list[str]:
        release.wait(30)
        return ["93.184.216.34"]

    found = guard(web, lookup=lookup, deadline_seconds=SHORT)
    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(lambda i: verdict(found, f"http://h{i}.test/"), range(100))) == {"dns"}
    release.set()
    assert time.monotonic() - started < SHORT + 4


def test_a_blocked_host_is_blocked_behind_a_redirect_too(web: HostileWeb) -> None:
    found = guard(web, blocked=lambda host, url: host == "bad.test" or url.endswith("/link/mid"))
    assert verdict(found, "http://bad.test/x") == "blocked"
    assert verdict(found, web.url("/link/https://bad.test/x")) == "blocked"
    assert verdict(found, web.url("/link/" + web.url("/link/mid"))) == "blocked", "an address between two others"


@pytest.mark.parametrize(
    ("path", "tries"),
    [("/ratelimit/once", 2), ("/ratelimit/silent", 2), ("/ratelimit/date", 2), ("/ratelimit/nonsense", 2),
     ("/flaky/500", 2), ("/flaky/hangs_up", 2)],
)  # fmt: skip
def test_what_a_moment_mends(web: HostileWeb, path: str, tries: int) -> None:
    web.forget()
    found = guard(web, retries=2).fetch(web.url(path))
    assert (found.tries, web.hits[path], found.body) == (tries, tries, PICTURES["/picture/jpeg"]())


@pytest.mark.parametrize(
    ("path", "requests"), [("/status/404", 1), ("/status/410", 1), ("/status/403", 1), ("/status/451", 1),
                           ("/status/206", 1), ("/robots/noai", 1), ("/status/500", 3), ("/status/429", 3)]
)  # fmt: skip
def test_what_is_final_is_asked_once(web: HostileWeb, path: str, requests: int) -> None:
    web.forget()
    with pytest.raises(EgressError) as error:
        guard(web, retries=2).fetch(web.url(path))
    assert (error.value.tries, web.hits[path]) == (requests, requests)


def test_a_server_that_asks_for_a_day_is_not_asked_again_and_nobody_sleeps(web: HostileWeb) -> None:
    web.forget()
    started = time.monotonic()
    with pytest.raises(EgressError) as error:
        guard(web, retries=5, retry_after_cap_seconds=0.3).fetch(web.url("/ratelimit/day"))
    assert (error.value.retry_after, web.hits["/ratelimit/day"]) == (86_400, 1)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("limits", [{"retry_after_cap_seconds": 0.3}, {"deadline_seconds": 0.8}])
def test_a_wait_that_is_too_long_is_not_begun(web: HostileWeb, limits: dict[str, float]) -> None:
    """The server asks for one second: more than it may ask for, or more than the fetch has left."""
    web.forget()
    started = time.monotonic()
    settings = {"retries": 5, "retry_after_cap_seconds": 5.0, **limits}
    with pytest.raises(EgressError) as error:
        guard(web, **settings).fetch(web.url("/ratelimit/once"))
    assert (error.value.reason, error.value.tries, error.value.retry_after) == ("rate_limited", 1, 1.0)
    assert time.monotonic() - started < 0.8


def test_the_environment_and_other_libraries_change_nothing(
    web: HostileWeb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password canary-password")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, web.url("/", "canary"))
    web.forget()
    found = guard(web, user_agent="our-crawler/1.0 (+https://our.example/bot)")
    found.fetch(web.url("/picture/jpeg"))
    found.fetch(web.url("/picture/png"))
    for head in web.requests:
        assert "User-Agent: our-crawler/1.0 (+https://our.example/bot)\r\n" in head
        assert not {"authorization", "cookie", "canary-password"} & set(head.lower().split())


def test_an_endless_body_takes_no_more_memory_than_a_whole_one(web: HostileWeb) -> None:
    """The server shares this process; neither side may hold more than pieces of the 64 MB and the 100 MB."""
    gzip_bomb()
    found = guard(web, max_bytes=2_000_000)
    tracemalloc.start()
    try:
        for path in ("/endless/body", "/endless/chunks", "/endless/one_chunk", "/bomb/gzip"):
            assert verdict(found, web.url(path)) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_a_picture_comes_whole_and_unchanged(web: HostileWeb) -> None:
    body = guard(web).fetch(web.url("/gzip")).body
    assert Image.open(io.BytesIO(body)).size == (64, 48)
    assert guard(web).fetch(web.url("/chunked/whole")).body == b"hello"
    assert guard(web).fetch(web.url("/orient/6")).body == PICTURES["/orient/6"]()


def test_other_content_at_the_same_address_is_handed_on(web: HostileWeb) -> None:
    found = guard(web)
    assert found.fetch(web.url("/swap")).body != found.fetch(web.url("/swap")).body
