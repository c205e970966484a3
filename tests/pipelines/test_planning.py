"""`internvl plan data`: a pilot is downloaded from a real server, and prices the list that it was drawn from."""

import json
import shlex
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines import cli, planning, price_rows, pricing
from pipelines.cli import app
from pipelines.names import RecipeName
from pipelines.recipes import OwnData
from pipelines.sections import Section, markdown, show
from stages.manifest import load
from stages.materialize import materialize
from stages.ref import Ref


def jpeg() -> bytes:
    out = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "JPEG")
    return out.getvalue()


class Pictures(BaseHTTPRequestHandler):
    picture = jpeg()
    asked: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.asked.add(self.path)
        found = self.path.endswith(".jpg") and not self.path.endswith("7.jpg")
        self.send_response(200 if found else 404)
        body = self.picture if found else b""
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{found.server_address[1]}"
    found.shutdown()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("INTERNVL_STORE", "PREFECT_API_URL", "INTERNVL_RAY_JOBS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def words(home: Path, server: str) -> list[str]:
    """Return the options that name a list of 200 rows."""
    lines = [f"http://{server}/{n}.jpg,picture {n}" for n in range(200)]
    (home / "list.csv").write_text("\n".join(["url,text", *lines]) + "\n")
    return ["--recipe", "photos", "--urls", str(home / "list.csv"), "--allow-host", server]


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> list[str]:
    """Make the steps of a flow in this process; return the artifacts that were made."""
    made: list[str] = []

    def run_flow(here: object, begin: Callable[[], list[str]]) -> None:
        own = OwnData(urls=(words[3],), allow_hosts=(words[5],))
        store = Store(settings().store_root)
        for step in pricing.pilot_steps(RecipeName.PHOTOS, 50, "", own):
            made.append(str(materialize(step.spec, store, InlineCluster()).ref))

    monkeypatch.setattr(planning, "run_flow", run_flow)
    return made


def call(*given: str) -> Result:
    return CliRunner().invoke(app, list(given))


def test_without_a_download_nothing_is_known(words: list[str]) -> None:
    result = call("plan", "data", *words)
    assert result.exit_code == 0
    (line,) = (line for line in result.output.splitlines() if line.startswith("own: "))
    said, _, command = line.rpartition(": ")
    assert said == "own: nothing of it was downloaded yet"
    assert shlex.split(command) == ["internvl", "plan", "data", *words, "--pilot", "10000"], "typed as it stands"


def test_private_hosts_that_may_be_asked_are_told_first(
    words: list[str], server: str, inline: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"downloads may ask {server} although it is private (--allow-host)"
    assert call("plan", "data", *words, "--pilot", "20").output.startswith(line)
    monkeypatch.setattr(cli, "run_flow", lambda here, begin: ([], {}, 0.0))
    assert call("run", "data", *words).output.startswith(line)


def test_a_pilot_prices_the_whole_list(words: list[str], inline: list[str]) -> None:
    Pictures.asked.clear()
    result = call("plan", "data", *words, "--pilot", "50", "--workers", "2", "--host-rate", "2", "--json")
    assert result.exit_code == 0, result.output
    assert inline == ["listing/own@photos", "listing/pilot/own@photos-50", "pilot/own@photos-50"]
    found = json.loads(result.output)
    (source,) = found["sources"]
    assert source["whole"] == {"listed": 200, "rows": 200, "urls": 200}
    assert source["sample_urls"] == 50 and source["requests"] == 200
    # Which 50 of the 200 are drawn depends on the addresses, and so on the server's port.
    drawn = [path for path in Pictures.asked if path.endswith(".jpg")]
    there = sum(not path.endswith("7.jpg") for path in drawn)
    assert len(drawn) == 50 and source["fetched"] == pytest.approx(there / 50)
    assert source["fetched_low"] < source["fetched"] < source["fetched_high"]
    assert source["gigabytes_out"] > 0 and source["gigabytes_in"] >= 0
    assert source["cpu_hours"] > 0 and source["worker_hours"] > 0
    states = {each["artifact"]: each["state"] for each in found["steps"]}
    assert states["listing/own@photos"] == "stands", "the listing of the pilot is that of the run"
    assert states["pool/own@photos"] == "missing"

    again = call("plan", "data", *words, "--pilot", "50")
    assert len(inline) == 3, "a pilot that stands is not made again"
    assert again.exit_code == 0 and "distinct urls" in again.output and "95 % interval" in again.output
    # Without a size the largest pilot that stands is gone by.
    assert "distinct urls" in call("plan", "data", *words).output


def test_hosts_at_the_rate_limit_decide_when_it_ends(words: list[str], inline: list[str], server: str) -> None:
    result = call("plan", "data", *words, "--pilot", "50", "--host-rate", "0.01", "--json")
    (source,) = json.loads(result.output)["sources"]
    host = server.partition(":")[0]
    assert source["tail"][0]["host"].startswith(host) and source["hours"] == pytest.approx(200 / 0.01 / 3600)


def test_an_earlier_download_prices_the_next(words: list[str], inline: list[str]) -> None:
    call("plan", "data", *words, "--pilot", "50")
    store = Store(settings().store_root)
    own = OwnData(urls=(words[3],), allow_hosts=(words[5],))
    steps = {step.artifact: step for step in pricing.steps_of(planning.FlowName.DATA, RecipeName.PHOTOS, "", own)}
    materialize(steps["pool/own"].spec, store, InlineCluster())
    (source,) = json.loads(call("plan", "data", *words, "--json").output)["sources"]
    assert source["sample_urls"] == 200 and source["fetched"] == pytest.approx(0.9)
    assert source["gigabytes_in"] >= 0 and source["whole"]["urls"] == 200
    pool = load(store, Ref(name="pool/own", version="photos"))
    assert source["gigabytes_out"] == pytest.approx(pool.totals["bytes_out"] / 1e9)


def test_training_has_no_pilot() -> None:
    result = call("plan", "train", "--pilot", "10")
    assert result.exit_code == 2 and "a pilot prices data: internvl plan data --pilot" in result.output


def test_pictures_that_are_here_need_no_pilot(home: Path) -> None:
    folder = home / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg())
    (folder / "a.txt").write_text("a picture of noise")
    result = call("plan", "data", "--recipe", "photos", "--images", str(folder), "--pilot", "10")
    assert result.exit_code == 2 and "nothing to ask the web for" in result.output
    result = call("plan", "data", "--recipe", "photos", "--images", str(folder))
    assert result.exit_code == 0 and "its pictures are on this machine already" in result.output


def test_a_host_cannot_format_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from stages.download_price import Tail

    line = price_rows.tail(Tail("[red]x\u202e|<b>", 3, 1.0))
    assert line == "[red]x[RLO]|<b>: 3 urls, 60 min"
    section = Section("t", ("hosts",), ((line,),))
    show([section])
    assert "[red]x[RLO]|<b>: 3 urls" in capsys.readouterr().out
    assert "| \\[red\\]x\\[RLO\\]\\|\\<b\\>: 3 urls, 60 min |" in markdown([section])


def test_how_long_a_download_waits_is_the_installations_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits() -> set[float]:
        steps = pricing.steps_of(planning.FlowName.DATA, RecipeName.TINY)
        return {s.spec.placement["drift_patience_seconds"] for s in steps if s.spec.stage == "download"}

    assert waits() == {1800.0}
    monkeypatch.setenv("INTERNVL_DRIFT_PATIENCE_SECONDS", "60")
    assert waits() == {60.0}
    monkeypatch.setenv("INTERNVL_DRIFT_PATIENCE_SECONDS", "soon")
    result = call("plan")
    assert result.exit_code == 2 and "drift_patience_seconds" in result.output


def test_downloads_ask_for_a_way_out_only_where_an_installation_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> dict[str, object]:
        steps = pricing.steps_of(planning.FlowName.DATA, RecipeName.TINY)
        return {s.spec.stage: s.spec.placement["resources"] for s in steps if s.spec.placement.get("resources")}

    assert asked() == {}
    monkeypatch.setenv("INTERNVL_EGRESS_RESOURCE", "egress")
    assert asked() == {"download": {"egress": 0.001}}
    monkeypatch.setenv("INTERNVL_EGRESS_RESOURCE", "no spaces!")
    result = call("plan")
    assert result.exit_code == 2 and "egress_resource" in result.output
