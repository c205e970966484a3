"""Behind a proxy with TLS: what the page sends comes in, what another site sends does not."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from gateways import TOKEN
from small_web import jpeg
from tls_proxy import Behind, behind_a_proxy

from stages.manifest import ManifestError
from stages.serving.public_url import PublicUrl
from stages.serving.served_model import ServedModel

UPLOAD = "gradio_api/upload"


@pytest.fixture(
    scope="module",
    params=[("/chat/room", False, False), ("/chat/room", True, True), ("", False, False)],
    ids=["keeps the path", "strips the path, passes the host", "has the host to itself"],
)
def behind(request: Any, model: ServedModel) -> Iterator[Behind]:
    """Return a gateway with its page behind a proxy of each kind."""
    prefix, strips, passes_host = request.param
    with behind_a_proxy(model, prefix, strips=strips, passes_host=passes_host) as found:
        yield found


def picture() -> dict[str, tuple[str, io.BytesIO]]:
    return {"files": ("a.jpg", io.BytesIO(jpeg(1)))}


def test_the_page_works_and_the_cookie_travels_with_tls_alone(behind: Behind) -> None:
    proxy = behind.proxy
    with behind.visitor() as visitor:
        came = visitor.get("", params={"token": TOKEN, "view": "a"})
        assert came.status_code == 303 and came.headers["location"] == f"{proxy.prefix}/?view=a"
        said = came.headers["set-cookie"].split("; ")
        assert {"Secure", "HttpOnly", "SameSite=Strict", f"Path={proxy.prefix or '/'}"} <= set(said)
        page = visitor.get("")
        assert page.status_code == 200
        assert visitor.get("config").json()["root"] == proxy.public
        assert visitor.get("facts").status_code == 200 and 'href="./"' in visitor.get("facts").text
        ours = {"origin": f"https://localhost:{proxy.server_port}", "sec-fetch-site": "same-origin"}
        assert visitor.post(UPLOAD, files=picture(), headers=ours).status_code == 200


def test_other_sites_send_nothing_through_the_proxy_either(behind: Behind) -> None:
    port = behind.proxy.server_port
    with behind.visitor() as visitor:
        visitor.get("", params={"token": TOKEN})
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": f"https://localhost:{port + 1}"},
            {"origin": f"http://localhost:{port}"},
            {"origin": f"https://localhost:{port}", "sec-fetch-site": "cross-site"},
        ):
            found = visitor.post(UPLOAD, files=picture(), headers=headers)
            assert found.status_code == 403 and found.json()["error"]["code"] == "cross_site", headers


def test_the_endpoint_answers_at_the_public_address(behind: Behind) -> None:
    with behind.visitor() as visitor:
        assert visitor.get("v1/models").status_code == 401
        found = visitor.get("v1/models", headers={"authorization": f"Bearer {TOKEN}"})
        assert found.status_code == 200 and found.json()["data"][0]["id"] == "small"
        assert visitor.get("healthz").json() == {"status": "ready"}


def test_a_name_that_is_neither_ours_nor_public_is_refused(behind: Behind) -> None:
    with behind.running.client(host="evil.example") as client:
        found = client.get("/v1/models")
        assert found.status_code == 403 and found.json()["error"]["code"] == "wrong_host"


def test_the_prefix_alone_leads_to_the_page(behind: Behind) -> None:
    with behind.visitor() as visitor:
        found = visitor.get(behind.proxy.public, params={"a": "b"})
        if behind.proxy.prefix and not behind.proxy.strips:
            assert found.status_code == 308 and found.headers["location"] == "/chat/room/?a=b"
        else:  # then it is the page's own address, or the proxy's matter
            assert found.status_code == 401 and "A token is needed" in found.text


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://Chat.example/", ("https", "chat.example", "")),
        ("https://chat.example:443/a/b/", ("https", "chat.example", "/a/b")),
        ("http://[::1]:8080/x", ("http", "[::1]:8080", "/x")),
    ],
)
def test_an_address_is_read_as_browsers_write_it(url: str, found: tuple[str, str, str]) -> None:
    assert PublicUrl.of(url) == found


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("chat.example", "does not begin with https"),
        ("ftp://chat.example", "does not begin with https"),
        ("https://", "does not begin with https"),
        ("https://me:pw@chat.example", "more than a host"),
        ("https://chat.example/?a", "more than a host"),
        ("https://chat.example/a//b", "is to be of letters"),
        ("https://chat.example/../b", "is to be of letters"),
        ("https://chat.example/a;Path=b", "is to be of letters"),
        ("https://chat.example:99999", "cannot be served"),
    ],
)
def test_what_is_no_address_is_refused(url: str, why: str) -> None:
    with pytest.raises(ManifestError, match=f"--public-url .*{why}.*https://host/prefix"):
        PublicUrl.of(url)


def test_only_whole_parts_of_a_path_are_the_prefix() -> None:
    public = PublicUrl.of("https://chat.example/a")
    assert [public.inside(path) for path in ("/a/b", "/a", "/ab", "/b", "/a/a/b")] == ["/b", "", "/ab", "/b", "/a/b"]
