"""Notices to a webhook: signed, retried, through the rules of the egress, and in nobody's way."""

import hashlib
import hmac
import importlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import notices
from pipelines.deploy import deployments
from pipelines.steps import stop_jobs


class Hook:
    """A webhook that fails as often as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.failures = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.heard.append((dict(self.headers), body))
                self.send_response(503 if len(outer.heard) <= outer.failures else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    made = Hook()
    monkeypatch.setenv("INTERNVL_WEBHOOK", f"http://{made.endpoint}/in?key=s3cret")
    monkeypatch.setenv("INTERNVL_WEBHOOK_ALLOW", f"{made.endpoint},other:1")
    monkeypatch.setattr(notices, "PAUSE_SECONDS", 0.01)
    yield made
    made.server.shutdown()
    made.server.server_close()


def ended(thread: threading.Thread | None) -> None:
    assert thread is not None
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_a_notice_is_signed_and_says_what_happened(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_WEBHOOK_SECRET", "shared")
    ended(notices.send("failed", "internvl-tiny", "x" * 5000, "run-1"))
    ((headers, body),) = hook.heard
    told = json.loads(body)
    assert (told["event"], told["run"], told["text"]) == ("failed", "internvl-tiny", "x" * notices.MOST_TEXT)
    assert told["links"]["run"].endswith("/runs/flow-run/run-1")
    right = hmac.new(b"shared", body, hashlib.sha256).hexdigest()
    assert headers["X-Internvl-Signature"] == f"sha256={right}"


def test_without_a_secret_nothing_is_signed_and_without_a_webhook_nobody_is_told(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(notices.send("finished", "run", "text"))
    assert "X-Internvl-Signature" not in hook.heard[0][0]
    monkeypatch.delenv("INTERNVL_WEBHOOK")
    assert notices.send("finished", "run", "text") is None


@pytest.mark.parametrize(("failures", "heard"), [(2, 3), (9, 3)])
def test_a_webhook_that_fails_is_asked_three_times(
    hook: Hook, failures: int, heard: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.failures = failures
    with caplog.at_level(logging.WARNING):
        ended(notices.send("finished", "run", "text"))
    assert len(hook.heard) == heard
    assert "try 2 of 3: server_error" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_private_address_must_be_allowed_by_name(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("INTERNVL_WEBHOOK_ALLOW", "other:1")
    with caplog.at_level(logging.WARNING):
        ended(notices.send("finished", "run", "text"))
    assert hook.heard == []
    assert "must be named in INTERNVL_WEBHOOK_ALLOW=host:port" in caplog.text


def test_the_hooks_of_a_flow_tell_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(notices, "send", lambda *said: told.append(said))
    flow = SimpleNamespace(name="data")
    run = SimpleNamespace(name="data-tiny", id="run-1", parameters={"dry_run": False})
    notices.finished(flow=flow, flow_run=run, state=SimpleNamespace(message=None, name="Completed"))
    dry = SimpleNamespace(name="data-tiny", id="run-2", parameters={"dry_run": True})
    notices.finished(flow=flow, flow_run=dry, state=SimpleNamespace(message=None, name="Completed"))
    notices.failed(flow=flow, flow_run=run, state=SimpleNamespace(message="why\nlong", name="Failed"))
    notices.failed(flow=flow, flow_run=run, state=SimpleNamespace(message=None, name="Crashed"))
    assert told == [
        ("finished", "data-tiny", "data finished", "run-1"),
        ("failed", "data-tiny", "why", "run-1"),
        ("failed", "data-tiny", "Crashed", "run-1"),
    ]


WORKING = [each for each in deployments() if each.name not in ("plan", "whatif")]  # these two only look


@pytest.mark.parametrize("deployed", WORKING, ids=lambda each: each.name)
def test_every_flow_that_works_tells_its_end(deployed: Any) -> None:
    module, _, name = deployed.entrypoint.partition(":")
    found = getattr(importlib.import_module(module.removesuffix(".py").replace("/", ".")), name)
    assert (found.on_failure_hooks, found.on_crashed_hooks) == ([notices.failed], [notices.failed])
    assert found.on_completion_hooks == [notices.finished] and found.on_cancellation_hooks == [stop_jobs]
