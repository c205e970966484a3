"""Wrong input: one clear sentence with the next move, exit code 2, no traceback, nothing started."""

import json
import os
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.cluster import InlineCluster
from infra.settings import settings
from infra.storage import Store
from pipelines.cli import app
from pipelines.launcher import PORTS, _refuse_taken
from stages.materialize import StageSpec, materialize
from stages.ref import Ref


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("INTERNVL_HOME", str(home))
    for name in ("INTERNVL_STORE", "PREFECT_API_URL", "INTERNVL_RAY_JOBS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return home


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def one_listing(home: Path, name: str = "listing/own", version: str = "photos", urls: str = "list.csv") -> Store:
    """Make a finished listing in the store."""
    file = home.parent / urls
    file.write_text("url,text\nhttp://127.0.0.1:1/a.jpg,a picture of a cat\n")
    store = Store(str(home / "store"))
    spec = StageSpec(
        stage="list_urls",
        artifact=Ref(name=name, version=version),
        parameters={"source": "own", "paths": [str(file)], "columns": {"url": "url", "caption": "text"}},
    )
    materialize(spec, store, InlineCluster(), progress=False)
    return store


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "everything"], "'everything' is not one of 'data', 'train', 'internvl'"),
        (["run", "data", "--recipe", "huge"], "'huge' is not one of 'tiny', 'smoke', 'photos'"),
        (["rerun", "scoring"], "'scoring' is not one of 'list_urls'"),
        (["rerun", "score", "--source", "flickr"], "'flickr' is not one of 'laion_en'"),
        (["rerun", "score", "--source", "own"], "no 'own' in this recipe; it has laion_en"),
        (["rerun", "filter", "--set", "policy.cat=1", "--new-version", "x"], "has no parameter policy.cat"),
        (["rerun", "filter", "--set", "policy"], "write it as path=value"),
        (["rerun", "score", "--new-version", "x"], "no version of it is finished; make it: internvl run data"),
        (["run", "data", "--recipe", "photos"], "--urls FILE_OR_GLOB or --images FOLDER_OR_TAR"),
        (["run", "data", "--images", "/etc"], "brings its own data; use --recipe photos"),
        (
            ["run", "train", "--recipe", "photos"],
            "make it: internvl run data --recipe photos --urls FILE_OR_GLOB",
        ),
        (["run", "data", "--recipe", "photos", "--images", "/nowhere/at/all"], "/nowhere/at/all"),
        (["run", "data", "--recipe", "photos", "--urls", "/nowhere/list.parquet"], "/nowhere/list.parquet"),
        (["run", "data", "--version", "a/b"], "version 'a/b'"),
        (["show", "nothing"], "write it as name@version"),
        (["show", "shards/clean@tiny"], "no version of it is finished; make it: internvl run data"),
        (["verify", "shards/clean@tiny"], "no version of it is finished"),
        (["verify"], "run something first: internvl demo"),
        (["chat"], "no version of it is finished; make it: internvl demo"),
        (["chat", "--image", "/nowhere.png"], "there is no picture /nowhere.png"),
        (["chat", "--image", "/etc/passwd"], "/etc/passwd cannot be read as a picture"),
    ],
)
def test_wrong_input_is_named_with_the_next_move(words: Sequence[str], message: str, home: Path) -> None:
    result = call(*words)
    text = " ".join(result.output.replace("│", " ").split())
    assert result.exit_code == 2, result.output
    assert message in text
    assert "Traceback" not in result.output
    assert not (home / "services.json").exists()


def test_a_store_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "file" / "store"))
    result = call("up")
    assert result.exit_code == 2
    assert "cannot be written" in result.output and "INTERNVL_STORE" in result.output


def test_a_state_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("INTERNVL_STORE", str(tmp_path / "store"))
    result = call("up")
    assert result.exit_code == 2
    assert "cannot be made" in result.output and "INTERNVL_HOME" in result.output


def test_a_store_of_an_unknown_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_STORE", "ftp://somewhere/else")
    result = call("plan")
    assert result.exit_code == 2
    assert "only a folder or s3://bucket/prefix" in result.output


@pytest.mark.parametrize("value", ["many", "0", "70000"])
def test_a_port_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("INTERNVL_WEB_PORT", value)
    result = call("up")
    assert result.exit_code == 2
    assert "web_port" in result.output


def test_a_busy_port_is_named_with_another(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("INTERNVL_PREFECT_PORT", str(port))
        result = call("up")
    assert result.exit_code == 2
    assert f"port {port}, wanted for prefect" in result.output and "taken by another program" in result.output
    assert "export INTERNVL_PREFECT_PORT=" in result.output
    assert not (home / "services.json").exists()


def test_all_ports_that_another_installation_holds_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    names = ("PREFECT_PORT", "RAY_DASHBOARD_PORT", "RAY_PORT", "REPORT_PORT", "WEB_PORT")
    with ExitStack() as stack:
        for name in names:
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            monkeypatch.setenv(f"INTERNVL_{name}", str(taken.getsockname()[1]))
        result = call("up")
    assert result.exit_code == 2 and "or by another installation" in " ".join(result.output.split())
    (line,) = re.findall(r"export (.*)", " ".join(result.output.split()))
    chosen = dict(word.split("=") for word in line.split())
    assert sorted(chosen) == sorted(f"INTERNVL_{name}" for name in names)
    assert len(set(chosen.values())) == len(names)
    for name, port in chosen.items():
        monkeypatch.setenv(name, port)
    _refuse_taken(settings(), list(PORTS))
    assert not (home / "services.json").exists()


def test_drift_is_refused_with_both_ways_out(home: Path) -> None:
    one_listing(home)
    file = home.parent / "list.csv"
    result = call("run", "data", "--recipe", "photos", "--urls", str(file), "--url-column", "link")
    assert result.exit_code == 2
    assert "listing/own@photos stands and was made differently" in result.output
    assert "--version NAME" in result.output and "--force" in result.output
    assert not (home / "services.json").exists()


def test_down_without_anything_running(home: Path) -> None:
    result = call("down")
    assert result.exit_code == 0
    assert "nothing of ours was running" in result.output
    assert not home.exists()


def test_plan_says_what_stands_and_what_waits(home: Path) -> None:
    one_listing(home)
    rows = [line for line in call("plan", "data", "--recipe", "photos").output.splitlines() if "│" in line]
    states = {line.split("│")[2].strip(): line.split("│")[3].strip() for line in rows if "@" in line}
    assert states["listing/own@photos"] == "stands"  # with the data that was named then
    assert states["pool/own@photos"] == "missing"
    assert states["shards/clean@photos"] == "waits for its inputs"


def test_show_and_verify_name_what_stands_and_what_is_damaged(home: Path) -> None:
    store = one_listing(home)
    shown = call("show", "listing/own@photos")
    assert shown.exit_code == 0
    assert "listed 1 = kept 1 + rejected 0 + failed 0" in shown.output
    assert call("verify").exit_code == 0
    (rows,) = (key for key in store.keys("listing") if key.endswith(".parquet"))
    with open(store.path(rows), "r+b") as file:
        file.seek(10)
        file.write(b"\0\0\0")
    result = call("verify")
    assert result.exit_code == 1
    assert f"damaged {rows} differs from its manifest" in result.output
    os.remove(store.path(rows))
    assert "is missing" in call("verify").output


def test_an_unreadable_manifest_is_named(home: Path) -> None:
    store = one_listing(home)
    store.write("listing/own/photos/manifest.json", json.dumps({"ref": "x"}).encode())
    result = call("show", "listing/own@photos")
    assert result.exit_code == 2
    assert "listing/own/photos/manifest.json cannot be read" in result.output
