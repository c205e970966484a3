"""`internvl approve`: the one run that waits for an approval, and no other that is paused."""

import getpass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client import orchestration
from typer.testing import CliRunner, Result

from pipelines import approving
from pipelines.approvals import KEY
from pipelines.cli import app


class Server:
    """A Prefect whose runs are paused for this and that."""

    def __init__(self) -> None:
        self.paused: list[Any] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        """Stay."""

    def pause(self, name: str, key: str | None) -> None:
        state = SimpleNamespace(state_details=SimpleNamespace(pause_key=key))
        self.paused.append(SimpleNamespace(name=name, id=f"id-{name}", state=state))

    def read_flow_runs(self, **_: object) -> list[Any]:
        return self.paused

    def resume_flow_run(self, run: str, run_input: dict[str, Any]) -> Any:
        self.answers.append((run, run_input))
        return SimpleNamespace(status=SimpleNamespace(value="ACCEPT"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    made = Server()
    monkeypatch.setattr(orchestration, "get_client", lambda **_: made)
    monkeypatch.setattr(approving, "join", lambda _: None)
    monkeypatch.setattr(approving, "refusal", lambda _: "")
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return made


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["approve", *words])


def test_what_waits_for_something_else_is_not_answered(server: Server) -> None:
    server.pause("other", "some-question-of-its-own")
    server.pause("stopped", None)
    assert call().exit_code == 2 and server.answers == []
    for run in ("other", "id-other"):
        refused = call(run)
        assert refused.exit_code == 2 and "no run waits for an approval" in refused.output
    server.pause("mine", f"{KEY}0123-1")
    assert call("--note", "dogs are fine").exit_code == 0
    ((run, answer),) = server.answers
    assert run == "id-mine" and answer["answer"] == "approve" and answer["note"] == "dogs are fine"


def test_one_of_several_is_named(server: Server) -> None:
    for name in ("one", "two"):
        server.pause(name, f"{KEY}0123-1")
    told = call()
    assert told.exit_code == 2 and "several runs wait" in told.output and "id-two" in told.output
    assert call("two", "--reject").exit_code == 0
    assert [(run, answer["answer"]) for run, answer in server.answers] == [("id-two", "reject")]


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 1234"), OSError("no username")])
def test_a_user_may_have_a_number_alone(server: Server, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(approving.os, "getuid", lambda: 1234)
    server.pause("mine", f"{KEY}0123-1")
    assert call().exit_code == 0
    assert server.answers[0][1]["who"] == "user 1234"


def test_a_password_that_prefect_refuses_is_one_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approving, "refusal", lambda _: "Prefect was started with another password")
    result = call()
    assert result.exit_code == 2
    assert result.output.strip() == "error: Prefect was started with another password"
