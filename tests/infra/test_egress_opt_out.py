import time

import pytest

from infra.addresses import Target, parse
from infra.http_head import Headers
from infra.opt_out import directives, opted_out
from infra.robots import RobotsCache, Rule, product_token, read_rules


@pytest.mark.parametrize(
    ("header", "words"),
    [("noai, noimageai", {"noai", "noimageai"}), ("NoAI", {"noai"}), ("otherbot: noai, noindex", set()),
     ("max-image-preview:large, noai", {"noai"}), ("our-bot: noai", {"noai"}), ("*: none", {"none"}),
     ("otherbot: noindex, our-bot: noai, nofollow", {"noai", "nofollow"}),
     ("our-bot: noai, otherbot: noindex", {"noai"}),
     ("unavailable_after: 2031-06-25T15:00:00, noai", {"noai"}),
     (": noai", set()), (",,", set()), ("", set())],
)  # fmt: skip
def test_directives_are_read_one_by_one(header: str, words: set[str]) -> None:
    assert directives(header, "our-bot") == words


def test_the_words_that_keep_out_are_a_setting() -> None:
    headers = Headers([("x-robots-tag", "noindex"), ("tdm-reservation", " 1 ")])
    assert opted_out(headers, "our-bot") and opted_out(headers, "our-bot", {"noindex"})
    assert opted_out(headers, "our-bot", {"tdm-reservation"}) and not opted_out(headers, "our-bot", {"noai"})
    assert not opted_out(headers, "our-bot", ())


ROBOTS = b"""\xef\xbb\xbfUser-agent: *
Disallow: /private  # all of it
Allow: /private/open

USER-AGENT: Our-Bot/2.0
User-agent: second-bot
Disallow: /*.gif$
Disallow: /stra%c3%9fe
Disallow: /a*b*c
crawl-delay: 10
Allow: /x/
Disallow: /x
Disallow:
Sitemap: https://a.test/map

User-agent: our-bot
Disallow: /%7Emore
Disallow: /same
Allow: /same
"""


@pytest.mark.parametrize(
    ("path", "ours", "all_others"),
    [("/", True, True), ("/private/x", True, False), ("/private/open/x", True, True), ("/p.gif", False, True),
     ("/p.gif?x", True, True),
     ("/stra\u00dfe/1", False, True), ("/stra%C3%9Fe/1", False, True), ("/a-b-c-d", False, True),
     ("/acb", True, True), ("/x", False, True), ("/x/1", True, True), ("/~more", False, True), ("/same", True, True),
     ("/robots.txt", True, True)],
)  # fmt: skip
def test_robots(path: str, ours: bool, all_others: bool) -> None:
    assert read_rules(ROBOTS, "our-bot").allow(path) is ours
    assert read_rules(ROBOTS, "third-bot").allow(path) is all_others


def test_a_hostile_robots_file_takes_no_time() -> None:
    stars = b"User-agent: *\n" + b"Disallow: /" + b"*a" * 5_000 + b"b\n"
    started = time.monotonic()
    assert read_rules(stars, "our-bot").allow("/" + "a" * 8_000)
    assert read_rules(b"\xff\xfe\x00:" * 100_000, "our-bot").allow("/")
    assert not read_rules(b"User-agent: *\rDisallow: /\r", "our-bot").allow("/x")
    assert time.monotonic() - started < 2


def test_a_rule_that_ends_the_path() -> None:
    assert Rule("/a*a$", False).matches("/a-a") and not Rule("/a*a$", False).matches("/a")
    assert Rule("/a$", False).matches("/a") and not Rule("/a$", False).matches("/a/")


def test_hosts_with_many_rules_push_each_other_out_of_memory() -> None:
    cache, read = RobotsCache("our-bot", remembered=30), []

    def file(target: Target) -> bytes:
        read.append(target.host)
        return b"User-agent: *\n" + b"Disallow: /private\n" * 9

    for host in ("a.test", "b.test", "a.test", "c.test", "d.test", "a.test", "d.test"):
        assert not cache.allows(parse(f"http://{host}/private/x"), file, 1)
    assert read == ["a.test", "b.test", "c.test", "d.test", "a.test"]


def test_whose_rules_are_ours() -> None:
    assert product_token("Our-Bot/1.0 (+https://our.example)") == "our-bot"
