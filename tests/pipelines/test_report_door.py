"""The report server's door: closed to whoever does not show the token, and no way around it."""

import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import Settings, quiet_environment
from infra.storage import StorageError, Store
from pipelines.launcher import _token
from pipelines.report_door import VARIABLE, link, token_of
from pipelines.report_server import checked_token, make_server
from stages.ref import Ref
from stages.workspace import Output

TOKEN = "a1" * 16
PATHS = ("/", "/lineage", "/grid", "/checkpoints", "/verdicts/clean/coyo/v1/", "/nothing")


@pytest.fixture
def port(store: Store) -> Iterator[int]:
    output = Output(store, Ref(name="verdicts/clean/coyo", version="v1"), "filter", {"inputs": {}})
    output.commit([], reports={"page": ("page.html", b"<p>captions of people</p>")})
    server = make_server("127.0.0.1", 0, store, TOKEN)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read().decode()
    connection.close()
    return found


def report_of(store: Store) -> str:
    return next(f"/{key}" for key in store.keys("verdicts") if key.endswith(".html"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nobody_gets_in_without_the_token(port: int, store: Store, method: str) -> None:
    wrong = (
        {"Authorization": f"Bearer {TOKEN[:-1]}0"},
        {"Cookie": f"internvl_reports_{port}=wrong"},
        {"Cookie": "=;,"},
        {"Cookie": f"internvl_reports_{port}={TOKEN}"},
        {"Cookie": f"x=internvl_reports_{port}"},
    )
    for headers in ({}, *wrong, {"Authorization": f"Basic {TOKEN}"}):
        for path in (*PATHS, report_of(store), "/?token=wrong", "/lineage?token=", "/x/healthz"):
            status, told, body = ask(port, path, method, **headers)
            assert status == 401 and "Set-Cookie" not in told, (path, headers)
            assert "captions" not in body and "coyo" not in body and TOKEN not in body
            assert ("internvl status --links" in body) is (method == "GET")


def test_health_is_everybody_s(port: int) -> None:
    assert ask(port, "/healthz")[::2] == (200, "ok")


def test_the_link_sets_a_cookie_and_leads_on_without_the_token(port: int, store: Store) -> None:
    status, headers, body = ask(port, f"/lineage?of=verdicts/clean/coyo@v1&token={TOKEN}")
    assert (status, body) == (303, "") and headers["Location"] == "/lineage?of=verdicts%2Fclean%2Fcoyo%40v1"
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} == set(attributes)
    for path in PATHS[:-1]:
        assert ask(port, path, Cookie=cookie)[0] == 200, path
    assert TOKEN not in cookie, "other servers on this machine are shown the cookie"
    for others in ("other=1", 'a={"x":1}', "=", "a b=[c]", 'open="', f"internvl_reports_{port}=of-an-older-token"):
        seen = ask(port, report_of(store), Cookie=f"{others}; {cookie}; {others}")
        assert seen[2] == "<p>captions of people</p>", others
    assert ask(port, "/", Authorization=f"Bearer {cookie.partition('=')[2]}")[0] == 401, "a cookie is no token"
    assert ask(port, "/nothing", Cookie=cookie)[0] == 404
    elsewhere = cookie.replace(str(port), str(port + 1))
    assert ask(port, "/", Cookie=elsewhere)[0] == 401, "the cookie of another installation on this machine"


def test_a_program_sends_a_bearer(port: int) -> None:
    assert ask(port, "/", Authorization=f"bearer {TOKEN}")[0] == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/%5Cevil.example/", "/%0d%0aSet-Cookie:x"])
def test_the_link_leads_nowhere_else(port: int, path: str) -> None:
    status, headers, _ = ask(port, f"{path}?token={TOKEN}")
    where = headers["Location"]
    assert status == 303 and where.startswith("/") and where[1:2] not in ("/", "\\") and "\n" not in where
    assert headers["Set-Cookie"].count("=") == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_there_is_nothing_but_reading(port: int, method: str) -> None:
    assert ask(port, "/", method, Authorization=f"Bearer {TOKEN}")[0] == 501


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in (VARIABLE, "INTERNVL_REPORT_URL"):
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path, store_root=str(tmp_path / "store"))


def test_the_installation_s_token_is_this_user_s_alone(here: Settings) -> None:
    assert token_of(here) == "" and link(here) == here.report_url
    _token(here.report_token_path)
    assert here.report_token_path.stat().st_mode & 0o777 == 0o600
    token = token_of(here)
    assert len(token) == 64 and link(here) == f"{here.report_url}/?token={token}"
    _token(here.report_token_path)
    assert token_of(here) == token, "it stands"
    assert token not in str(quiet_environment(here)), "no job and no specification holds it"


def test_an_empty_token_opens_no_door(here: Settings) -> None:
    here.report_token_path.parent.mkdir(parents=True)
    here.report_token_path.write_text("\n")
    for ask_for in (token_of, link, lambda here: _token(here.report_token_path)):
        with pytest.raises(StorageError, match=r"reports/token is empty; remove it"):
            ask_for(here)


def test_a_token_is_whole_or_absent(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", killed)
        _token(here.report_token_path)
    assert not list(here.report_token_path.parent.iterdir())
    _token(here.report_token_path)
    assert len(token_of(here)) == 64


def test_the_environment_s_token_wins_and_a_weak_one_is_refused(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _token(here.report_token_path)
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert token_of(here) == TOKEN
    for weak in ("short", "a" * 20 + ";", "a" * 20 + "é"):
        monkeypatch.setenv(VARIABLE, weak)
        with pytest.raises(StorageError, match="openssl rand"):
            token_of(here)


def test_our_token_is_not_sent_to_a_server_of_others(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _token(here.report_token_path)
    monkeypatch.setenv("INTERNVL_REPORT_URL", "https://reports.example")
    assert link(here) == "https://reports.example"
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert link(here) == f"https://reports.example/?token={TOKEN}"


def test_a_server_that_others_can_reach_asks_or_does_not_start(here: Settings) -> None:
    assert checked_token(here, "127.0.0.1", open_to_all=False) == ""
    for host in ("0.0.0.0", "::", "10.0.0.7", "reports.internal"):
        with pytest.raises(StorageError, match=VARIABLE):
            checked_token(here, host, open_to_all=False)
    assert checked_token(here, "0.0.0.0", open_to_all=True) == ""
    _token(here.report_token_path)
    assert checked_token(here, "0.0.0.0", open_to_all=False) == token_of(here)
