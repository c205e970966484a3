"""`internvl sweep`: dry unless told otherwise, says why and how much, and exits with 1 where something is left."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.storage import Store
from pipelines.cli import app
from stages.manifest import Ledger, load, verify
from stages.ref import Ref
from stages.workspace import Output


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """Return the installation's store: one finished artifact, an orphan of two days and one of now."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    store = Store(str(tmp_path / "home" / "store"))
    for version in ("tiny", "mine"):
        output = Output(store, Ref(name="pool/x", version=version), "toy", {"inputs": {}})
        part = output.part("0", "d" * 64, Ledger(listed=1, kept=1), {"rows": ("0.bin", b"body")})
        output.commit([part])
        orphan = store.path(output.ref.key(output.file("parts/1.bin", version.encode() * 1000).name))
        facts = os.stat(orphan)
        os.utime(orphan, (facts.st_mtime - 2 * 86_400,) * 2)
        output.file("parts/2.bin", b"young")
    return store


def sweep(*words: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *words])


def test_without_apply_nothing_goes_and_the_exit_code_says_that_something_is_left(store: Store) -> None:
    before = store.keys()
    result = sweep()
    assert result.exit_code == 1
    assert result.output.count("left over  pool/x/") == 2
    assert "4.0 kB, 48.0 h old: no manifest and no marker counts it" in result.output
    assert "8.0 kB to free in" in result.output and "internvl sweep --apply" in result.output
    assert store.keys() == before


def test_apply_removes_what_was_listed_and_says_how_much(store: Store) -> None:
    result = sweep("--apply")
    assert result.exit_code == 0, result.output
    assert "8.0 kB freed in" in result.output
    for version in ("tiny", "mine"):
        assert verify(store, load(store, Ref(name="pool/x", version=version))) == []
    again = sweep()
    assert again.exit_code == 0 and "nothing older than 24h is left over" in again.output
    assert len([key for key in store.files("pool") if "/parts/2-" in key]) == 2, "what is young stays"


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--artifact", "pool/x@mine"], 1),
        (["--artifact", "pool"], 2),
        (["--artifact", "pool/y"], 0),
        (["--recipe", "tiny"], 1),
        (["--grace", "3d"], 0),
        (["--grace", "0s"], 4),
    ],
)
def test_what_to_sweep_can_be_named(store: Store, words: list[str], gone: int) -> None:
    before = len(store.keys())
    assert sweep(*words, "--apply").exit_code == 0
    assert before - len(store.keys()) == gone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grace", "soon"], "--grace 'soon' is no duration; write it as 30m, 24h or 7d"),
        (["--artifact", "../etc"], "artifact name '../etc'"),
        (["--artifact", "pool/x@../y"], "version '../y'"),
    ],
)
def test_wrong_words_are_refused(store: Store, words: list[str], message: str) -> None:
    result = sweep(*words)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_an_unreadable_manifest_is_named_and_its_files_stay(store: Store) -> None:
    store.write("pool/x/tiny/manifest.json", b"{")
    before = store.keys("pool/x/tiny")
    result = sweep("--apply")
    assert result.exit_code == 1
    assert "spared pool/x/tiny/manifest.json cannot be read" in result.output
    assert store.keys("pool/x/tiny") == before
