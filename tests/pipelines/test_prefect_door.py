"""Prefect's password: made once, this user's alone, shown to our own server, and never more widely than needed."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.processes import Services
from infra.settings import Settings, quiet_environment
from infra.storage import StorageError
from pipelines import launcher, prefect_door
from pipelines.health import basic
from pipelines.prefect_door import (
    ASKED,
    SHOWN,
    client_variables,
    make_password,
    password_of,
    refusal,
    server_variables,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in (SHOWN, ASKED, "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path, store_root=str(tmp_path / "store"))


class Asking(BaseHTTPRequestHandler):
    """A Prefect that asks for a password."""

    password = "internvl:right"

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        right = self.headers.get("Authorization") == basic(self.password)["Authorization"]
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def asking(here: Settings) -> Iterator[Settings]:
    """Return settings whose own Prefect is one that asks."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Asking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield here.model_copy(update={"prefect_port": int(server.server_address[1])})
    server.shutdown()
    server.server_close()


def keep(here: Settings, password: str) -> None:
    here.prefect_password_path.parent.mkdir(exist_ok=True)
    here.prefect_password_path.write_text(password)


def test_a_password_is_made_once_for_this_user_alone(here: Settings) -> None:
    assert password_of(here) == "" and SHOWN not in client_variables(here) and ASKED not in server_variables(here)
    make_password(here)
    password = password_of(here)
    name, _, secret = password.partition(":")
    assert name == "internvl" and len(secret) == 32
    assert here.prefect_password_path.stat().st_mode & 0o777 == 0o600
    make_password(here)
    assert password_of(here) == password, "it stands"


def test_it_goes_to_whoever_talks_to_prefect_and_to_no_job(here: Settings) -> None:
    make_password(here)
    password = password_of(here)
    assert password not in str(quiet_environment(here)), "a Ray job is given these"
    assert client_variables(here) == quiet_environment(here) | {SHOWN: password}
    assert server_variables(here) == client_variables(here) | {ASKED: password}
    holders = [name for name in launcher.PORTS if password in str(launcher._variables(here, name))]
    assert holders == ["prefect"]
    assert ASKED not in launcher._variables(here, "deployments")
    assert launcher._variables(here, "deployments")[SHOWN] == password


@pytest.mark.parametrize("given", [SHOWN, ASKED])
def test_one_s_own_password_wins(here: Settings, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(here, "internvl:kept")
    monkeypatch.setenv(given, "ada:own")
    assert password_of(here) == "ada:own"
    assert server_variables(here)[ASKED] == client_variables(here)[SHOWN] == "ada:own"
    here.prefect_password_path.unlink()
    make_password(here)
    assert not here.prefect_password_path.exists()


def test_our_password_is_not_shown_to_a_server_of_others(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(here, "internvl:kept")
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    assert password_of(here) == "" and SHOWN not in client_variables(here)
    monkeypatch.setenv(SHOWN, "ada:theirs")
    assert password_of(here) == "ada:theirs"


def test_an_empty_password_opens_no_door(here: Settings) -> None:
    keep(here, "\n")
    for ask_for in (password_of, make_password, client_variables):
        with pytest.raises(StorageError, match=r"prefect/password is empty; remove it"):
            ask_for(here)


def test_a_password_that_is_refused_is_told_with_the_next_move(
    asking: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(asking, Asking.password)
    assert refusal(asking) == ""
    keep(asking, "internvl:other")
    assert "belongs to another installation on this machine" in refusal(asking) and "internvl up" in refusal(asking)
    monkeypatch.setattr(Services, "find", lambda _, name: name == "prefect")
    for joined in (False, True):
        if joined:
            monkeypatch.setenv(SHOWN, password_of(asking))
        assert f"ours: set {SHOWN} to that one" in refusal(asking) and "internvl down, then" in refusal(asking)
    monkeypatch.setenv(SHOWN, "ada:wrong")
    assert f"unset {SHOWN}, or set it to that one" in refusal(asking)
    assert "wrong" not in refusal(asking) and "other:" not in refusal(asking)
    monkeypatch.setenv("PREFECT_API_URL", asking.own_prefect_api_url.replace("127.0.0.1", "localhost"))
    assert f"asks for another password: set {SHOWN}" in refusal(asking)


def test_where_nothing_answers_nothing_is_refused(here: Settings) -> None:
    assert refusal(here.model_copy(update={"prefect_port": 9})) == ""


@pytest.mark.parametrize("runs", ["prefect", "deployments", ""])
def test_who_runs_an_earlier_release_is_not_locked_out(
    here: Settings, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server and the process that serves the forms were started without a password: both know none until `down`."""
    said: list[str] = []
    monkeypatch.setattr(Services, "find", lambda _, name: name == runs)
    monkeypatch.setattr(launcher, "_commands", lambda _: {})
    monkeypatch.setattr(Services, "start", lambda *_: None)
    monkeypatch.setattr(launcher, "refusal", lambda _: "")
    launcher._up(here, said.append)
    assert here.prefect_password_path.exists() is (not runs)
    assert any("Prefect asks nobody for a password yet" in each for each in said) is bool(runs)


def test_a_wrong_password_ends_up_in_one_sentence(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_commands", lambda _: {})
    monkeypatch.setattr(launcher, "refusal", lambda _: "another password is asked for")
    with pytest.raises(launcher.LaunchError, match="another password is asked for"):
        launcher._up(here, lambda _: None)
    assert Services(here.home).all() == []


def test_a_process_joins_with_the_password(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(here, "internvl:kept")
    told: dict[str, str] = {}
    monkeypatch.setattr(prefect_door.os, "environ", told)
    prefect_door.join(here)
    assert told[SHOWN] == "internvl:kept" and ASKED not in told
