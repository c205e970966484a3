"""`internvl status`: what runs, what failed and the next move, also where no service answers."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.job_list import Listed
from infra.settings import settings
from infra.storage import Store
from pipelines import looking, standing
from pipelines.cli import app
from pipelines.launcher import _token
from pipelines.live.shelf import Shelf
from pipelines.live.states import QUIET_SECONDS
from pipelines.prefect_door import ASKED, SHOWN, make_password
from stages.failures import note_failure
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.workspace import Progress

TOKEN = "b2" * 16


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """Return an installation's store; nothing listens on its ports."""
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    for name in ("INTERNVL_STORE", "PREFECT_API_URL", "INTERNVL_REPORT_URL", "INTERNVL_REPORT_TOKEN", SHOWN, ASKED):
        monkeypatch.delenv(name, raising=False)
    for name in ("PREFECT", "RAY_DASHBOARD", "REPORT"):
        monkeypatch.setenv(f"INTERNVL_{name}_PORT", "9")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return Store(str(tmp_path / "home" / "store"))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["status", *words])


def said(result: Result) -> str:
    return re.sub(r"\s+", " ", result.output)


def begun(store: Store, name: str) -> Ref:
    spec = StageSpec(stage="download", artifact=Ref(name=name, version="v1"), parameters={})
    store.write(f"specs/{name.replace('/', '-')}.json", spec.model_dump_json().encode())
    return spec.artifact


def test_nothing_there_is_told_with_the_next_move(store: Store) -> None:
    result = call()
    assert result.exit_code == 0
    assert "no answer from Prefect, Ray, reports; start what is missing: internvl up" in said(result)
    assert "nothing runs now" in said(result) and "0 finished artifacts" in said(result)


def test_progress_failures_and_what_to_do_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    running, failed = begun(store, "pool/coyo"), begun(store, "pool/wukong")
    Progress(store, running)(30, 120, "parts")
    note_failure(store, failed, RuntimeError("\n".join(f"line {n}" for n in range(40)) + "\nno space [left]"))
    monkeypatch.setattr(standing, "running_jobs", lambda _: [Listed("j", str(running), "")])
    text = said(call())
    assert re.search(r"pool/coyo@v1 .* 25 % 30 of 120 parts", text)
    assert "failed pool/wukong@v1: nothing told yet" in text
    assert "line 39 no space [left] next: put right what the message says" in text and "line 3 " not in text
    assert "Ray," not in text and "GB free of" in text


def test_a_job_that_lives_and_says_nothing_may_hang(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, busy = begun(store, "pool/coyo"), begun(store, "pool/wukong")
    for ref, ago in ((quiet, QUIET_SECONDS + 60), (busy, QUIET_SECONDS / 2)):
        record = {"done": 1, "total": 4, "unit": "parts", "note": "", "at": time.time() - ago}
        store.write(ref.key("progress.json"), json.dumps(record).encode())
    monkeypatch.setattr(standing, "running_jobs", lambda _: [Listed("j", str(each), "") for each in (quiet, busy)])
    text = said(call())
    assert "pool/coyo@v1: its job lives and has told nothing for 11 min" in text and "cancel its run" in text
    assert "pool/wukong@v1:" not in text


def test_json_holds_the_same_and_no_secret(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_REPORT_TOKEN", TOKEN)
    os.environ["INTERNVL_REPORT_TOKEN"] = TOKEN
    begun(store, "pool/coyo")
    result = call("--json")
    told = json.loads(result.output)
    assert [(each["artifact"], each["doing"]) for each in told["stages"]] == [("pool/coyo@v1", "stopped")]
    assert told["runs"] is None and told["ray_answers"] is False and told["disks"][0]["total_bytes"] > 0
    assert TOKEN not in result.output


def test_what_lets_a_browser_in_is_printed_where_it_is_asked_for(tmp_path: Path) -> None:
    token, password = (tmp_path / "home" / name for name in ("reports/token", "prefect/password"))
    assert call("--links").output.splitlines() == [
        "reports         http://127.0.0.1:9",
        "runs and forms  http://127.0.0.1:9",
    ]
    _token(token)
    make_password(settings())
    assert call("--links").output.splitlines() == [
        f"reports         http://127.0.0.1:9/?token={token.read_text()}",
        "runs and forms  http://127.0.0.1:9",
        f"  its password  {password.read_text()}",
    ]
    text = said(call())
    assert token.read_text() not in text and password.read_text() not in text, "what is no terminal may be a log"
    assert "internvl status --links prints the link that lets you in" in text
    assert "internvl status --links prints the password" in text
    assert password.read_text() not in call("--json").output


def test_a_password_that_prefect_refuses_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.prefect_door.refusal", lambda _: "Prefect was started with another password")
    result = call()
    assert result.exit_code == 0 and "Prefect was started with another password" in said(result)
    assert "no answer from Ray, reports" in said(result)
    assert json.loads(call("--json").output)["refused"] == "Prefect was started with another password"


def test_watching_ends_with_ctrl_c_and_says_nothing_of_stopped_work(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(looking.time, "sleep", sleep)
    result = call("--watch")
    assert result.exit_code == 0 and len(slept) == 2
    assert "0 finished artifacts" in result.output and "stopped" not in result.output


def test_training_s_numbers_have_a_command_once_there_are_some(store: Store, tmp_path: Path) -> None:
    assert "tensorboard" not in call().output
    (tmp_path / "home" / "tensorboard").mkdir(parents=True)
    assert f"tensorboard --host 127.0.0.1 --logdir {tmp_path / 'home' / 'tensorboard'}" in said(call())


def test_one_disk_is_told_once(store: Store, tmp_path: Path) -> None:
    store.write("a/b", b"x")
    assert len(standing.disks(settings())) == 1
    now = standing.standing_of(settings(), Shelf(store))
    assert now.finished == 0 and time.time() > 0
