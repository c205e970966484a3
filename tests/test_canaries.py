import base64

from canaries import leaks

MINE = {"mine": "canary-of-mine-0123456789"}


def test_the_search_finds_what_is_there_however_it_is_written() -> None:
    for before in ("", "a", "admin:"):
        written = base64.b64encode(f"{before}{MINE['mine']}".encode())
        assert leaks([("log", written)], MINE, {}) == ["mine in log"]
    assert leaks([("log", b"x canary-of-mine-0123456789"), ("other", b"canary-of-min")], MINE, {}) == ["mine in log"]


def test_a_secret_may_lie_where_it_is_kept() -> None:
    left = [("home", b"canary-of-mine-0123456789"), ("log", b"canary-of-mine-0123456789")]
    assert leaks(left, MINE, {"mine": "home"}) == ["mine in log"]
