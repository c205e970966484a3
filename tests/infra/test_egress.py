import email.utils
import pickle
import threading
import time

import pytest

import infra.connections
from infra.addresses import follow, is_public, parse
from infra.connections import reserve_descriptors
from infra.egress import EgressError, Guard, reason_in
from infra.egress_error import reason_of_status, seconds_until
from infra.resolver import Resolver


def reason(error: pytest.ExceptionInfo[EgressError]) -> str:
    return error.value.reason


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("10.0.0.1", False), ("100.64.0.1", False), ("169.254.169.254", False), ("224.0.0.1", False),
     ("240.0.0.1", False), ("192.0.0.192", False), ("192.88.99.1", False), ("168.63.129.16", False),
     ("198.18.0.1", False), ("203.0.113.1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True),
     ("2002:7f00:1::", False), ("2002:808:808::", True), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True),
     ("64:ff9b:1::808:808", False), ("2001:0:808:808::", False), ("::7f00:1", False), ("::808:808", False),
     ("fec0::1", False), ("ff02::1", False),
     ("fd00:ec2::254", False), ("2001:db8::1", False), ("2606:4700::1", True)],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_an_address_is_taken_apart_as_it_will_be_asked_for() -> None:
    target = parse("HTTPS://Bücher.Example.:8443/ä b?q=ü#part".replace(" ", "%20"))
    assert target[:4] == ("https", "xn--bcher-kva.example", 8443, "/%C3%A4%20b?q=%C3%BC")
    assert (target.authority, target.endpoint) == ("xn--bcher-kva.example:8443", "xn--bcher-kva.example:8443")
    assert parse("http://a.test?x").path == "/?x"
    assert parse("https://[2606:4700::1]/").authority == "[2606:4700::1]"


@pytest.mark.parametrize(
    ("location", "url"),
    [("/x y", "http://a.test/x%20y"), ("//b.test/x", "http://b.test/x"), ("?q", "http://a.test/d/e?q"), ("f", "http://a.test/d/f")],
)  # fmt: skip
def test_a_redirect_is_read_as_browsers_read_it(location: str, url: str) -> None:
    assert follow(parse("http://a.test/d/e"), location).url == url


@pytest.mark.parametrize("location", [None, "", "http://u@b.test/", "/x\x01", "http://b\\c/"])
def test_a_redirect_to_nowhere(location: str | None) -> None:
    with pytest.raises(EgressError) as error:
        follow(parse("http://a.test/"), location)
    assert reason(error) == "bad_redirect"


def test_an_error_survives_a_journey_and_its_text_can_be_read_back() -> None:
    error = pickle.loads(pickle.dumps(EgressError("gone", 410, 3.0, 2, 0.5)))
    assert (error.reason, error.status, error.retry_after, error.tries, error.latency_seconds) == (
        "gone",
        410,
        3,
        2,
        0.5,
    )
    assert reason_in(str(error)) == ("gone", 410) and reason_in(str(EgressError("dns"))) == ("dns", None)
    assert reason_in("<urlopen error egress=gone>") is None


def test_what_retry_after_asks_for() -> None:
    assert seconds_until("120") == 120
    assert 8 < seconds_until(email.utils.formatdate(time.time() + 10, usegmt=True)) <= 11
    nonsense = [None, "", "soon", "-5", "1e9", "²", email.utils.formatdate(0), "Mon, 99 Jan 2026 00:00:00 GMT"]
    assert [seconds_until(value) for value in nonsense] == [0.0] * len(nonsense)
    assert seconds_until("9" * 5_000) < 1e9


def test_statuses_have_words() -> None:
    words = {
        404: "not_found",
        410: "gone",
        401: "forbidden",
        451: "forbidden",
        429: "rate_limited",
        503: "server_error",
    }
    assert {status: reason_of_status(status) for status in words} == words
    assert {reason_of_status(status) for status in (204, 206, 304, 418, 999)} == {"bad_status"}


def test_one_lookup_serves_all_and_is_remembered_briefly() -> None:
    asked, gate = [], threading.Event()

    def lookup(host: str) -> list[str]:
        asked.append(host)
        gate.wait(5)
        return ["8.8.8.8"] if host == "a.test" else []

    resolver = Resolver(lookup, life_seconds=0.2, failure_life_seconds=0.2)
    found: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(target=lambda: found.append(resolver.resolve("a.test", 5).addresses)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert (found, asked) == ([("8.8.8.8",)] * 8, ["a.test"])
    for _ in range(2):
        with pytest.raises(EgressError):
            resolver.resolve("b.test", 5)
    assert asked == ["a.test", "b.test"], "that there is none is remembered too"
    time.sleep(0.25)
    resolver.resolve("a.test", 5)
    assert asked == ["a.test", "b.test", "a.test"]


def test_a_literal_needs_no_name_server() -> None:
    def lookup(host: str) -> list[str]:
        raise AssertionError(host)

    assert Resolver(lookup).resolve("127.1", 1).addresses == ("127.0.0.1",)
    assert not Resolver(lookup).resolve("0x7f000001", 1).public
    assert Resolver(lookup).resolve("8.8.8.8", 1).public


def test_too_few_open_files_are_reported_before_anything_is_fetched() -> None:
    reserve_descriptors(100)
    with pytest.raises(OSError, match=r"1000000000 open files are needed .*ulimit"):
        reserve_descriptors(1_000_000_000)
    with pytest.raises(OSError, match="fetch fewer at once"):
        Guard(fetches_at_once=1_000_000_000)


@pytest.mark.parametrize("agent", ["", "(+x)", "bot\r\nX: y", "bötchen/1.0"])
def test_a_user_agent_is_a_name_and_a_contact(agent: str) -> None:
    with pytest.raises(ValueError, match="name a crawler and a contact"):
        Guard(user_agent=agent)


@pytest.mark.parametrize("limits", [{"per_host": 0}, {"per_host": 4_096}, {"per_host_per_second": 0.0}])
def test_a_limit_that_lets_nothing_through_is_no_limit(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Guard(**limits)  # type: ignore[arg-type]


def test_a_guard_travels_as_its_settings() -> None:
    found = pickle.loads(pickle.dumps(Guard(frozenset({"a:1"}), 3.0, max_bytes=7, user_agent="our-bot/1 (+x)")))
    assert (found.allow, found.timeout, found.max_bytes, found._asker._token) == (
        frozenset({"a:1"}),
        3.0,
        7,
        "our-bot",
    )


def test_equal_settings_share_a_guard() -> None:
    assert Guard.shared(max_bytes=5) is Guard.shared(max_bytes=5) is not Guard.shared(max_bytes=6)


def test_tls_is_verified_and_its_settings_are_made_once() -> None:
    context = infra.connections.tls_context(None)
    assert context is infra.connections.tls_context(None)
    assert context.check_hostname and context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version >= context.minimum_version.TLSv1_2
