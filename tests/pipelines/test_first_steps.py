"""A newcomer's mistakes are answered before anything starts, in one line with the thing, the fact, the next move."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.storage import Store
from pipelines import terminal
from pipelines.cli import app
from pipelines.names import RecipeName
from pipelines.own_options import _OPTIONS, own_options, pilot_command
from pipelines.recipes import OwnData

PHOTOS = ("--recipe", "photos")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be an installation of its own that has nothing yet, and in which nothing may be started."""
    for name in ("INTERNVL_STORE", "PREFECT_API_URL", "INTERNVL_RAY_JOBS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(terminal, "start", lambda here: pytest.fail("services were started"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("address,text\nhttp://a/1,One.\n")
    (tmp_path / "list.xls").write_text("address,text\n")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(b"\x89PNG")
    return tmp_path / "home"


def call(words: Sequence[str]) -> Result:
    return CliRunner().invoke(app, list(words))


def refused(words: Sequence[str], message: str) -> None:
    result = call(words)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split()), result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*PHOTOS, "--urls", "list.csv"], "list.csv has no column 'url', only address, text; name yours with --url"),
        ([*PHOTOS, "--urls", "list.csv", "--schema", "coyo"], "list.csv has no column 'url', only address, text"),
        ([*PHOTOS, "--urls", "list.xls", "--url-column", "address"], "list.xls: unknown kind of file; give parquet"),
        ([*PHOTOS, "--urls", "pictures"], "pictures is a folder; name the files in it, as"),
        ([*PHOTOS, "--images", "list.csv"], "list.csv cannot be read: it is no tar, or breaks off; give a folder"),
        (
            [*PHOTOS, "--urls", "list.csv", "--url-column", "address", "--images", "pictures"],
            "source own is given a list (--urls) and pictures (--images), and reads one of them",
        ),
        (
            ["--recipe", "one_gpu", "--images", "pictures", "--language-model", "/nowhere"],
            "looked for in /nowhere",
        ),
        (["--recipe", "one_gpu", "--images", "pictures", "--vision-model", "/nowhere"], "looked for in /nowhere"),
        (["--version", "latest"], "where a version is read, 'latest' means the newest version; give the result"),
        (["--version", "promoted"], "'promoted' means the version that was promoted last"),
        (["--version", "../x"], "error: version '../x': letters, digits, '.', '_', '-', at most 64"),
    ],
)
def test_what_data_are_asked_for(command: str, words: Sequence[str], message: str) -> None:
    refused([command, "data", *words], message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rerun", "score", "--new-version", "latest"], "'latest' means the newest version"),
        (["variants", "--parameters", "bad.json"], "bad.json cannot be read: it is no JSON (Expecting property name"),
        (["variants", "--parameters", "/no.json"], "/no.json cannot be read: there is no such file or folder; check"),
        (["simulate", "--page", "/nowhere/x.html"], "--page /nowhere/x.html: there is no folder /nowhere; make it"),
        (["simulate", "--page", "pictures"], "pictures: it is a folder"),
        (["convert", "bad.png", "out"], "bad.png is no model; name a folder with config.json and weights"),
        (["benchmarks", "--data", "/nowhere"], "there is no folder /nowhere; --data names the folder"),
        (["evaluate", "checkpoints/contrastive@tiny", "--data", "/nowhere"], "there is no folder /nowhere; --data"),
        (["chat", "/nowhere"], "there is no folder /nowhere; name the folder of a model"),
        (
            ["evaluate", "--follow", "checkpoints/contrastive@tinny"],
            "no training of checkpoints/contrastive@tinny has begun in",
        ),
    ],
)
def test_what_other_commands_are_given(words: Sequence[str], message: str) -> None:
    refused(words, message)


def test_trainings_that_have_begun_are_named(home: Path) -> None:
    store = Store(str(home / "store"))
    for version in ("mine", "mine.step-00000010", "aliases"):
        store.write(f"checkpoints/contrastive/{version}/progress.json", b"{}")
    said = "checkpoints/contrastive has begun as mine; make it: internvl run train --recipe RECIPE --version mein"
    refused(["evaluate", "--follow", "checkpoints/contrastive@mein"], said)


def test_every_field_of_own_data_has_its_option_and_is_told_again() -> None:
    assert set(_OPTIONS) == set(OwnData.model_fields)
    own = OwnData(urls=("/a b.csv", "/c.csv"), schema_name="coyo", accept_withdrawn=True, allow_hosts=("h:1",))
    words = ["--urls", "/a b.csv", "--urls", "/c.csv", "--schema", "coyo", "--accept-withdrawn"]
    assert own_options(own) == [*words, "--allow-host", "h:1"] and own_options(OwnData()) == []
    assert pilot_command(RecipeName.PAPER, "v2", OwnData(lists="/l")) == (
        "internvl plan data --recipe paper --version v2 --lists /l --pilot 10000"
    )
