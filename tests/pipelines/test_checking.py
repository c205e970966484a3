"""`internvl parity`: what it prints and how it ends."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from pipelines.cli import app

PARITY = Path(__file__).parents[1] / "parity"
NAME = "intern_vit_300m_style"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["parity", *words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for ending in (".json", ".safetensors"):
        (tmp_path / f"{NAME}{ending}").write_bytes((PARITY / f"{NAME}{ending}").read_bytes())
    (tmp_path / "README.md").write_text("numbers\n")
    return tmp_path


def test_a_folder_that_is_met_is_shown_line_by_line(folder: Path) -> None:
    result = call(str(folder))
    assert result.exit_code == 0, result.output
    for text in (f"{NAME}.json", "hidden_states.3", "last_hidden_state", "1e-05", "pass", "1 of 1 files pass"):
        assert text in result.output
    assert "FAIL" not in result.output
    assert "last_hidden_state" not in call(str(folder), "--failures").output


def test_one_number_that_is_off_ends_with_exit_code_1(folder: Path) -> None:
    tensors = load_file(folder / f"{NAME}.safetensors")
    tensors["last_hidden_state"][0, 0, 0] += tensors["last_hidden_state"].abs().max() * 1e-4
    save_file(tensors, folder / f"{NAME}.safetensors")
    result = call(str(folder), "--failures")
    assert result.exit_code == 1
    assert "FAIL" in result.output and "0 of 1 files pass" in result.output
    assert "last_hidden_state" in result.output and "hidden_states.3" not in result.output


def test_a_file_that_cannot_be_compared_is_named_and_the_others_are_checked(folder: Path) -> None:
    facts = json.loads((folder / f"{NAME}.json").read_text())
    (folder / "unheard_of.json").write_text(json.dumps(facts))
    result = call(str(folder))
    assert result.exit_code == 1
    assert "unheard_of.json" in result.output and "1 of 2 files pass" in result.output
    assert "not a kind of file" in " ".join(result.output.replace("│", " ").split())


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "is no folder"), (tmp_path, "nothing to check")):
        result = call(str(path))
        assert result.exit_code == 2 and reason in " ".join(result.output.split())
