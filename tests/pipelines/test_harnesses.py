"""`internvl harness`: what to run elsewhere, and the file that goes with it."""

import json
from pathlib import Path

from chat_models import chat_session, write_chat
from typer.testing import CliRunner

from pipelines.cli import app


def test_lines_are_printed_and_the_configuration_written(tmp_path: Path) -> None:
    folder = write_chat(chat_session(), tmp_path / "chat")
    said = CliRunner().invoke(app, ["harness", str(folder), "--write", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    assert f"internvl serve {folder}" in said.output and "not run by us" in said.output
    assert json.loads((tmp_path / "out" / "vlmevalkit.json").read_text())["model"]["chat"]["class"] == "GPT4V"


def test_what_holds_no_model_is_one_message(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["harness", str(tmp_path)])
    assert said.exit_code == 2 and "config.json is missing" in said.output
