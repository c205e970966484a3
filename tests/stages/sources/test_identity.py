"""One spelling per address, the same names for plain ones for ever, and nothing changes when done twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.sources.identity import canonical, canonical_url, uid_of, url_id_of


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (" HTTP://Example.COM:80/A#x ", "http://example.com/A"),
        ("https://example.com:443/a?b=c", "https://example.com/a?b=c"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("http://example.com", "http://example.com/"),
        ("http://example.com:/a", "http://example.com/a"),
        ("http://bücher.example/ä b.jpg?q=图", "http://xn--bcher-kva.example/%C3%A4%20b.jpg?q=%E5%9B%BE"),
        ("http://ＥＸＡＭＰＬＥ.com/a", "http://example.com/a"),
        ("http://☃.net/a", "http://xn--n3h.net/a"),
        ("http://a.com/%7euser/%2f%c3%a4%41", "http://a.com/~user/%2F%C3%A4A"),
        ("http://a.com/100%/50%zz", "http://a.com/100%25/50%25zz"),
        ("http://a.com/%2520", "http://a.com/%2520"),
        ("http://a.com/a\nb\tc", "http://a.com/abc"),
        ("http://a.com/[1]|{2}", "http://a.com/%5B1%5D%7C%7B2%7D"),
        ("http://user:Pass@A.com/x", "http://user:Pass@a.com/x"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
        ("http://a.com:99999/x", "http://a.com:99999/x"),
        ("FILE:///etc/Hostname", "file:///etc/Hostname"),
        ("images:///a b#c.jpg", "images:///a b#c.jpg"),
        ("no url at all", "no url at all"),
    ],
)
def test_an_address_has_one_spelling(url: str, wanted: str) -> None:
    assert canonical_url(url) == wanted == canonical_url(wanted)


def test_hosts_come_along() -> None:
    hosts = {
        url: canonical(url)[1] for url in ("http://A.com:81/x", "https://a.com/x", "http://[::1]/", "file:///a", "")
    }
    assert list(hosts.values()) == ["a.com", "a.com", "::1", "", ""]


def test_names_of_plain_addresses_are_those_of_the_first_release() -> None:
    plain = "https://example.com/a/picture%20of.jpg?w=100"
    assert url_id_of(plain).hex() == "fd10e916ddaecbaed18380849bb16223"
    assert uid_of("laion_en", plain, "A caption, ä.").hex() == "f4d42418fa5a43437a4f7ae0b2f5843d"


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="aZ09%2fFé图 /?#&=:@[]\\.~\ud800", max_size=20),
    st.sampled_from(["http://h.x/", "https://", "HTTP://Ä.de:80", ""]),
)
def test_doing_it_twice_changes_nothing(tail: str, head: str) -> None:
    once = canonical(head + tail)
    assert canonical(once[0]) == once


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="aZ09%2fF/?&=:@.~+-_", max_size=20))
def test_the_short_way_says_what_the_long_way_says(tail: str) -> None:
    """An upper-case scheme is never plain, so it goes the long way."""
    assert canonical_url("http://h.example/" + tail) == canonical_url("HTTP://h.example/" + tail)
