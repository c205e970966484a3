"""The page's doors: who may look at it, from where things may be sent, and what the toolkit behind it may not do."""

import asyncio
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from gateways import TOKEN, Running, running
from small_web import jpeg, small_web

from stages.serving.served_model import ServedModel

UPLOAD = "/gradio_api/upload"


@pytest.fixture(scope="module")
def paged(model: ServedModel) -> Iterator[Running]:
    """Return a gateway with its page."""
    with TemporaryDirectory(prefix="internvl-test-") as folder, running(model, Path(folder), page=True) as found:
        yield found


@pytest.fixture
def visitor(paged: Running) -> Iterator[httpx.Client]:
    """Return a browser-like client that has not come in yet."""
    with httpx.Client(base_url=paged.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def inside(visitor: httpx.Client) -> httpx.Client:
    """Return one that has shown the token."""
    found = visitor.get("/", params={"token": TOKEN, "view": "a b"})
    assert found.status_code == 303 and found.headers["location"] == "/?view=a+b"
    return visitor


def picture() -> dict[str, tuple[str, io.BytesIO]]:
    return {"files": ("a.jpg", io.BytesIO(jpeg(1)))}


def test_without_the_token_the_page_shows_how_to_get_in(visitor: httpx.Client, paged: Running) -> None:
    for path in ("/", "/config", "/facts", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/theme.css"):
        found = visitor.get(path)
        assert found.status_code == 401 and "A token is needed" in found.text and TOKEN not in found.text
    assert visitor.post(UPLOAD, files=picture()).status_code == 401
    wrong = visitor.get("/", params={"token": TOKEN[:-1] + "X"})
    assert wrong.status_code == 401 and "not this server's token" in wrong.text and not visitor.cookies
    visitor.cookies.set(f"internvl-serve-{paged.port}", TOKEN)
    assert visitor.get("/").status_code == 401, "the cookie is not the token"


def test_the_form_takes_the_token_where_no_history_keeps_it(visitor: httpx.Client, paged: Running) -> None:
    assert '<form action="" method="post">' in visitor.get("/").text
    for given in ({"token": TOKEN + "x"}, {"token": ""}, {"token": TOKEN, "more": "x" * 5000}, {}):
        assert visitor.post("/", data=given).status_code == 401 and not visitor.cookies
    # Because of our own referrer policy browsers name no origin with a form.
    found = visitor.post("/?view=a&token=b", data={"token": TOKEN}, headers={"origin": "null"})
    assert found.status_code == 303 and found.headers["location"] == "/?view=a"
    assert list(visitor.cookies) == [f"internvl-serve-{paged.port}"], "two servers of one host have two cookies"
    assert visitor.get("/").status_code == 200


def test_the_cookie_stays_with_this_site(visitor: httpx.Client, paged: Running) -> None:
    found = visitor.get("/", params={"token": TOKEN})
    said = found.headers["set-cookie"].lower()
    assert "httponly" in said and "samesite=strict" in said and TOKEN not in said
    away = visitor.get(f"{paged.url}//evil.example/", params={"token": TOKEN})
    assert away.headers["location"].startswith("/evil.example"), "another path, not another host"


def test_the_page_loads_nothing_from_elsewhere(inside: httpx.Client) -> None:
    found = inside.get("/")
    assert found.status_code == 200 and "small" in found.text
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]+', found.text) == []
    policy = dict(each.strip().split(" ", 1) for each in found.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'" and found.headers["referrer-policy"] == "no-referrer"
    facts = inside.get("/facts")
    assert facts.status_code == 200 and "Made for tests." in facts.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_send_nothing(inside: httpx.Client, headers: dict[str, str]) -> None:
    found = inside.post(UPLOAD, files=picture(), headers=headers)
    assert found.status_code == 403 and found.json()["error"]["code"] == "cross_site"
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_pages_of_other_sites_read_nothing(inside: httpx.Client) -> None:
    for origin in ("https://evil.example", "http://localhost:3000"):  # the toolkit would let the second one read
        found = inside.get("/config", headers={"origin": origin})
        assert not [name for name in found.headers if name.startswith("access-control")]


def test_what_the_page_itself_sends_comes_in(inside: httpx.Client, paged: Running) -> None:
    found = inside.post(UPLOAD, files=picture(), headers={"origin": paged.url, "sec-fetch-site": "same-origin"})
    assert found.status_code == 200
    (path,) = found.json()
    assert Path(path).is_relative_to(paged.process.folder.parent / "page"), "in our own folder, gone with it"


def test_example_scenes_outlive_the_sweep_of_what_was_shown(inside: httpx.Client, paged: Running) -> None:
    config = inside.get("/config").json()
    buttons = [part for part in config["components"] if part["props"].get("elem_classes") == ["scene"]]
    assert len(buttons) == 6
    (click,) = (
        each["id"] for each in config["dependencies"] if [buttons[0]["id"], "click"] in [*map(list, each["targets"])]
    )

    def clicked() -> str:
        body = {"data": [], "fn_index": click, "session_hash": "scenes"}
        assert inside.post("/gradio_api/queue/join", json=body).status_code == 200
        with inside.stream("GET", "/gradio_api/queue/data", params={"session_hash": "scenes"}) as events:
            (done,) = (line for line in events.iter_lines() if "process_completed" in line)
        (file,) = json.loads(done.removeprefix("data: "))["output"]["data"][0]["files"]
        return str(file["url"])

    from gradio.route_utils import delete_files_created_by_app

    first = clicked()
    mounted = [getattr(route, "app", None) for route in paged.app.routes]
    (blocks,) = (app.get_blocks() for app in mounted if hasattr(app, "get_blocks"))
    delete_files_created_by_app(blocks, -1)  # as after an hour
    for url in (first, clicked(), buttons[0]["props"]["icon"]["url"]):
        found = inside.get(url)
        assert found.status_code == 200 and found.headers["content-type"] == "image/png"


def test_uploads_are_bounded(inside: httpx.Client) -> None:
    for size in (1_100_000, 5_000_000):  # the toolkit's bound of a file; ours of all that comes
        found = inside.post(UPLOAD, files={"files": ("a.jpg", io.BytesIO(bytes(size)))})
        assert found.status_code == 413


def test_files_of_this_machine_are_not_handed_out(inside: httpx.Client, model: ServedModel) -> None:
    for path in ("/etc/passwd", str(model.folder / "config.json"), "../engine/engine.log"):
        assert inside.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize("scheme", ["http://", "https://", "HTTP://", "http%3A%2F%2F", "http%253A%2F%2F"])
def test_no_address_of_another_server_is_read_through_the_page(
    inside: httpx.Client, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def public(host: str) -> str:
        return "127.0.0.1"  # stands in for a name that leads to the public internet

    monkeypatch.setattr("safehttpx.async_validate_url", public)
    with small_web() as web:
        web.pages["/a.jpg"] = (200, jpeg(1))
        host = web.url("/a.jpg").removeprefix("http://")
        for path in (f"/gradio_api/file={scheme}{host}", f"/gradio_api/proxy={scheme}{host}"):
            found = inside.get(path)
            assert found.status_code == 403 and found.json()["error"]["code"] == "elsewhere"
            assert inside.head(path).status_code == 403
        assert not web.asked


def test_the_toolkit_fetches_nothing_for_anybody(inside: httpx.Client, tmp_path: Path) -> None:
    with small_web() as web:
        web.pages["/a.jpg"] = (200, jpeg(1))
        outside = {"path": web.url("/a.jpg"), "url": web.url("/a.jpg"), "meta": {"_type": "gradio.FileData"}}
        config = inside.get("/config").json()
        box = next(part["id"] for part in config["components"] if part["type"] == "multimodaltextbox")
        asked = [each for each in config["dependencies"] if box in each["inputs"]]
        assert len(asked) == 2, "asking and looking"
        for each in asked:
            data = [{"text": "a", "files": [outside]} if part == box else None for part in each["inputs"]]
            body = {"data": data, "fn_index": each["id"], "session_hash": "abc"}
            found = inside.post("/gradio_api/queue/join", json=body)
            assert found.status_code in (200, 400, 500)
            if found.status_code == 200:
                with inside.stream("GET", "/gradio_api/queue/data", params={"session_hash": "abc"}) as events:
                    for line in events.iter_lines():
                        if "process_completed" in line:
                            assert '"success":false' in line.replace(" ", "")
                            break
        assert not web.asked
    from gradio import processing_utils

    with pytest.raises(ValueError, match=r"fetches nothing, and so not https://example\.com/a\.png"):
        asyncio.run(processing_utils.async_ssrf_protected_download("https://example.com/a.png", str(tmp_path)))
