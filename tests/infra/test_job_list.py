"""Asking a cluster for its jobs, as a page does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.job_list import Listed, running_jobs
from infra.settings import Settings

TOKEN = "b" * 32
OURS = {"installation": "ours"}
JOBS = [
    {"submission_id": "a-0", "status": "RUNNING", "metadata": {"artifact": "pool/a@v1", "flow_run_id": "f1", **OURS}},
    {"submission_id": "b-0", "status": "PENDING", "metadata": {"artifact": "pool/b@v1", **OURS}},
    {"submission_id": "c-0", "status": "FAILED", "metadata": {"artifact": "pool/c@v1", **OURS}},
    {"submission_id": "d-0", "status": "RUNNING", "metadata": {"artifact": "pool/d@v1", "installation": "theirs"}},
    {"submission_id": "e-0", "status": "RUNNING", "metadata": {"artifact": "pool/e@v1"}},
    {"submission_id": None, "status": "RUNNING", "metadata": None},
]


class Dashboard(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        right = self.headers.get("Authorization") == f"Bearer {TOKEN}" and self.path == "/api/jobs/"
        body = json.dumps(JOBS).encode() if right else b"who are you"
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("INTERNVL_RAY_JOBS", f"http://127.0.0.1:{server.server_address[1]}")
    yield Settings(home=tmp_path, store_root=str(tmp_path / "store"), installation="ours")
    server.shutdown()
    server.server_close()


def test_jobs_of_ours_that_have_not_ended_are_told(here: Settings) -> None:
    here.ray_token_path.parent.mkdir()
    here.ray_token_path.write_text(f"{TOKEN}\n")
    assert running_jobs(here) == [Listed("a-0", "pool/a@v1", "f1"), Listed("b-0", "pool/b@v1", "")]


def test_a_cluster_that_does_not_know_us_tells_nothing(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert running_jobs(here) is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c" * 32)
    assert running_jobs(here) is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert running_jobs(here) is not None


def test_no_cluster_is_not_the_same_as_no_jobs(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_RAY_JOBS", "http://127.0.0.1:9")
    assert running_jobs(here) is None
