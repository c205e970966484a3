"""What a server sees of many fetches: how many at once, on which connections, and what it forbade."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hostile_pictures import PICTURES
from hostile_web import HostileWeb

from infra.egress import EgressError, Guard

JPEG = PICTURES["/picture/jpeg"]()

MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from infra.egress import Guard
endpoint, folder, first = sys.argv[1:]
guard = Guard({endpoint}, per_host=4, turns_folder=folder)
with ThreadPoolExecutor(32) as pool:
    bodies = list(pool.map(lambda i: guard.fetch(f"http://{endpoint}/many/{first}-{i}").body, range(150)))
print(len(bodies))
"""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[HostileWeb]:
    with HostileWeb(tmp_path) as found:
        yield found


def guard(web: HostileWeb, **settings: Any) -> Guard:
    return Guard(web.endpoints, **{"deadline_seconds": 10, "ca_file": web.ca_file, **settings})


def fetch_all(guard: Guard, urls: list[str], threads: int = 64) -> list[bytes]:
    with ThreadPoolExecutor(threads) as pool:
        return [fetched.body for fetched in pool.map(guard.fetch, urls)]


def test_many_addresses_of_one_host_honour_its_limit(web: HostileWeb) -> None:
    """A list of one host at a tenth of its scale; its server counts, and no turn is charged to the deadline."""
    bodies = fetch_all(guard(web, per_host=5, deadline_seconds=1), [web.url(f"/many/{i}") for i in range(1_000)])
    assert bodies == [JPEG] * 1_000 and web.most_open == 5
    assert web.connections <= 10, "and they came on few connections"


def test_processes_that_share_a_folder_honour_it_together(web: HostileWeb, tmp_path: Path) -> None:
    words = [sys.executable, "-c", MANY, web.endpoint, str(tmp_path / "turns")]
    processes = [subprocess.Popen([*words, str(i)], stdout=subprocess.PIPE, text=True) for i in range(2)]
    assert [process.communicate()[0] for process in processes] == ["150\n", "150\n"]
    assert 2 <= web.most_open <= 4 and sum(web.hits.values()) == 300


def test_requests_per_second(web: HostileWeb) -> None:
    fetch_all(guard(web, per_host_per_second=40), [web.url(f"/many/{i}") for i in range(20)])
    assert web.times[-1] - web.times[0] >= 19 / 40 - 0.05


def test_a_wish_to_be_left_alone_holds_for_the_whole_host(web: HostileWeb) -> None:
    found = guard(web, retries=0)
    with pytest.raises(EgressError) as error:
        found.fetch(web.url("/ratelimit/once"))
    assert (error.value.reason, error.value.retry_after) == ("rate_limited", 1.0)
    assert fetch_all(found, [web.url(f"/many/{i}") for i in range(4)]) == [JPEG] * 4
    refused, *others = web.times
    assert min(others) >= refused + 0.9


@pytest.mark.parametrize(
    ("cap", "least", "most"), [(600, 599, 600), (100_000, 86_399, 86_400), (0.2, 0, 0.2)]
)  # fmt: skip
def test_a_host_that_asks_for_a_day_is_left_alone_up_to_a_cap_and_nobody_sleeps(
    web: HostileWeb, tmp_path: Path, cap: float, least: float, most: float
) -> None:
    """Longer than anybody waits: the other rows fail at once, in a word that a later pass tries again."""
    settings = {"retries": 5, "host_pause_cap_seconds": cap, "turns_folder": str(tmp_path / "turns")}
    first, second = guard(web, **settings), guard(web, **settings)
    started = time.monotonic()
    with pytest.raises(EgressError, match="rate_limited"):
        first.fetch(web.url("/ratelimit/day"))
    held = second._asker._turns._file.times(second._asker._turns._file.bucket(web.endpoint))[1]  # type: ignore[union-attr]
    assert least + started <= held <= most + time.monotonic()
    for i in range(20):
        if cap < 1:
            assert second.fetch(web.url(f"/many/{i}")).body == JPEG
            continue
        with pytest.raises(EgressError) as error:
            second.fetch(web.url(f"/many/{i}"))
        assert (error.value.reason, error.value.status, error.value.tries) == ("rate_limited", None, 1)
    assert len(web.times) == (21 if cap < 1 else 1) and time.monotonic() - started < 10


def test_a_pause_is_longer_than_what_one_fetch_waits_before_its_next_try(web: HostileWeb) -> None:
    found = guard(web, retries=5, retry_after_cap_seconds=0.1)
    with pytest.raises(EgressError) as error:
        found.fetch(web.url("/ratelimit/once"))
    assert (error.value.tries, error.value.retry_after) == (1, 1.0), "asked once, as a second is over the cap"
    assert found.fetch(web.url("/many/1")).body == JPEG
    refused, other = web.times
    assert other >= refused + 0.9, "and the host has its second all the same"


@pytest.mark.parametrize("kind", ["http", "good"])
def test_a_connection_serves_many_requests(web: HostileWeb, kind: str) -> None:
    found = guard(web)
    for path in ["/picture/jpeg", "/status/404", "/redirect/relative", "/chunked/whole", "/picture/png"]:
        try:
            found.fetch(web.url(path, kind))
        except EgressError as error:
            assert error.reason == "not_found"
    assert web.connections == 2, "one, and another after the page that hangs up"


def test_a_connection_that_died_meanwhile_costs_one_request_and_no_picture(web: HostileWeb) -> None:
    found = guard(web, retries=0)
    for i in range(4):
        fetched = found.fetch(web.url(f"/stale/{i}"))
        assert (fetched.body, fetched.tries) == (JPEG, 1)
    assert set(web.hits.values()) == {1} and web.connections == 4, "that it was closed is seen before it is used"
    for i in range(2):
        fetched = found.fetch(web.url(f"/once/{i}"))
        assert (fetched.body, fetched.tries) == (JPEG, 1)
    assert web.hits["/once/1"] == 2, "and what dies at the question is asked on another one"


@pytest.mark.parametrize("kind", ["http", "good"])
def test_what_follows_an_answer_is_never_taken_for_the_next_one(web: HostileWeb, kind: str) -> None:
    found = guard(web, retries=0)
    assert found.fetch(web.url("/smuggled/1", kind)).body == JPEG
    assert found.fetch(web.url("/picture/jpeg", kind)).body == JPEG
    assert web.connections == 2, "the one with the surplus is closed"


def test_a_connection_is_not_used_for_another_address_of_the_name(
    web: HostileWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    import infra.connections

    dialled, answers = [], [["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"]]

    def dial(address: str, port: int, seconds: float, true_dial: Any = infra.connections.dial) -> Any:
        dialled.append(address)
        return true_dial("127.0.0.1", port, seconds)

    monkeypatch.setattr(infra.connections, "dial", dial)
    port = web.ports["http"]
    found = Guard({f"a.test:{port}"}, lookup=lambda host: answers.pop(0))
    for _ in range(3):
        found._resolver._answers.clear()
        found.fetch(f"http://a.test:{port}/picture/jpeg")
    assert dialled == ["127.0.0.1", "127.0.0.2"]


def test_robots_txt_is_read_once_per_host_and_obeyed(web: HostileWeb) -> None:
    web.robots = b"User-agent: our-crawler\nDisallow: /many/\n\nUser-agent: *\nDisallow: /\n"
    obedient = guard(web, respect_robots=True, user_agent="our-crawler/1.0 (+x)")
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda i: obedient.fetch(web.url("/picture/jpeg")).body, range(16)))
    assert (bodies, web.hits["/robots.txt"]) == ([JPEG] * 16, 1)
    for path in ("/many/1", "/redirect/utf8"):
        with pytest.raises(EgressError) as error:
            obedient.fetch(web.url(path))
        assert error.value.reason == "robots"
    assert web.hits["/many/1"] == 0
    assert guard(web).fetch(web.url("/many/1")).body == JPEG, "the policy is a switch"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(404, None), (403, None), (206, None), (500, "server_error"), (503, "server_error"), (429, "rate_limited"),
     (b"", None), (b"#" * 600_000, None)],
)  # fmt: skip
def test_a_robots_txt_that_cannot_be_had(web: HostileWeb, answer: bytes | int, reason: str | None) -> None:
    """No file allows everything; a host in trouble is left alone for now, in a word that a later pass tries again."""
    web.robots = answer
    found = guard(web, respect_robots=True, retries=0)
    if reason is None:
        assert found.fetch(web.url("/picture/jpeg")).body == JPEG
        return
    with pytest.raises(EgressError) as error:
        found.fetch(web.url("/picture/jpeg"))
    assert error.value.reason == reason and web.hits["/picture/jpeg"] == 0


def test_of_an_endless_robots_txt_the_beginning_is_obeyed(web: HostileWeb) -> None:
    web.robots = b"User-agent: *\nDisallow: /many/\n" + b"#" * 600_000
    found = guard(web, respect_robots=True)
    with pytest.raises(EgressError, match="robots"):
        found.fetch(web.url("/many/1"))
    assert found.fetch(web.url("/picture/jpeg")).body == JPEG and web.hits["/many/1"] == 0
    assert web.connections == 2, "the rest of the file is not read"


def test_a_host_that_only_drips_is_given_up_after_a_while(web: HostileWeb) -> None:
    found = guard(web, deadline_seconds=0.2, retries=0, per_host=4, most_timeouts=8)

    def reason(i: int) -> str:
        with pytest.raises(EgressError) as error:
            found.fetch(web.url(f"/slow/body?{i}"))
        return error.value.reason

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(reason, range(100))) == {"timeout"}
    assert 8 <= len(web.times) <= 12


def test_a_turn_that_is_too_far_away_is_waited_for_once(web: HostileWeb) -> None:
    """Our own patience is not a server's refusal: trying again at once would only wait again."""
    found = guard(web, per_host=1, turn_seconds=0.1, retries=3)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(found.fetch, web.url("/slow/honest/1"))
        while not web.times:
            time.sleep(0.01)
        with pytest.raises(EgressError) as error:
            found.fetch(web.url("/picture/jpeg"))
        assert (error.value.reason, error.value.status, error.value.tries) == ("rate_limited", None, 1)
        assert slow.result().body == JPEG
