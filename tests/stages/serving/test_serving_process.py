"""The server as a process: it answers while the engine loads, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import stub_server
from installation import free_port, wait_for

from stages.serving.served_model import ServedModel


@contextmanager
def started(model: ServedModel, place: Path, port: int, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a server that keeps what is its own in a folder of the test's."""
    process = subprocess.Popen(
        [sys.executable, str(stub_server.__file__), str(model.folder), str(port), *words],
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_while_the_engine_loads_the_server_says_so(model: ServedModel, place: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/healthz"
    with started(model, place, port, "--wait-for-go") as process:
        assert process.stdout is not None and process.stdout.readline().startswith("loading small")
        found = httpx.get(url, timeout=60, trust_env=False)
        assert (found.status_code, found.json()) == (503, {"status": "starting"})
        (engine,) = place.glob("internvl-serve-*/engine")
        (engine / "go").touch()
        assert process.stdout.readline().startswith("endpoint")
        wait_for("it to be ready", lambda: httpx.get(url, trust_env=False).status_code == 200, 20)


def test_an_engine_that_cannot_load_ends_the_server_with_its_last_words(model: ServedModel, place: Path) -> None:
    with started(model, place, free_port(), "--broken") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "ended while it started" in said and "no such weights" in said
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_and_leaves_nothing(model: ServedModel, place: Path, number: signal.Signals) -> None:
    with started(model, place, free_port()) as process:
        assert process.stdout is not None
        wait_for("it to be ready", lambda: "Ctrl-C" in next(process.stdout), 60)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and said == "stopped\n" and list(place.iterdir()) == []
