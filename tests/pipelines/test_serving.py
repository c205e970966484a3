"""`internvl serve`: what it refuses before anything is started."""

import importlib.util
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

from exporting import make_chat

from infra.storage import Store
from pipelines.cli import app


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the state folder of an installation of its own; signals do afterwards what they did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("INTERNVL_SERVE_TOKEN", raising=False)
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(*words: str) -> str:
    result: Result = CliRunner().invoke(app, ["serve", *words])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def test_others_are_let_in_by_a_token_of_ones_own_alone() -> None:
    assert "--host 0.0.0.0 lets others reach the server" in refused("x", "--host", "0.0.0.0")
    for token in ("short", "spaces and\nlines in it", "ümläut-in-a-header"):
        assert "16 printable ASCII characters" in refused("x", "--token", token)
    assert "there is no folder x" in refused("x", "--host", "0.0.0.0", "--token", "0123456789abcdef")


def test_sigterm_ends_an_export_as_ctrl_c_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_chat(Store(str(home / "store")))

    def terminated(source: Path, target: Path, *_: object) -> None:
        (target / "half").touch()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("stages.serving.exported.write_chat", terminated)
    result = CliRunner().invoke(app, ["serve", "checkpoints/instruct@t"])
    assert result.exit_code == 130 and list((home / "serving").iterdir()) == []


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_SERVE_TOKEN", "0123456789abcdef")
    assert "there is no folder x" in refused("x", "--host", "0.0.0.0")


def test_a_port_that_is_taken_is_named_before_an_engine_starts(home: Path) -> None:
    make_chat(Store(str(home / "store")))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = refused("checkpoints/instruct@t", "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in said and "--port" in said
    assert [path.name for path in (home / "serving").iterdir()], "the export stays for the next time"


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_an_engine_that_is_not_installed_is_refused(home: Path) -> None:
    make_chat(Store(str(home / "store")))
    assert "serve with --engine transformers" in refused("checkpoints/instruct@t", "--engine", "vllm")
