"""The flow `plan` says what the command says: one document, in two spellings."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import planned
from pipelines.cli import app
from pipelines.names import RecipeName
from pipelines.plan_document import Asked, made
from pipelines.sections import markdown


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "300")


def test_the_flow_keeps_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, str] = {}
    monkeypatch.setattr(planned, "create_markdown_artifact", lambda text, key: kept.update({key: text}))
    text = planned.plan.fn(recipe=RecipeName.SMOKE, cluster="")
    assert kept == {"plan-smoke": text}
    document = made(Asked(recipe=RecipeName.SMOKE))
    assert text == f"## smoke\n\n{markdown(document.sections())}"
    printed = CliRunner().invoke(app, ["plan", "smoke"])
    assert printed.exit_code == 0, printed.output
    for section in document.sections():
        assert f"### {section.title}\n" in text
        assert all(line in printed.output for line in section.notes if len(line) < 200), section.notes
        for row in section.rows:
            assert all(cell.strip() in printed.output for cell in row), row
    titles = [section.title for section in document.sections()]
    assert titles[:4] == ["steps", "rows, bytes and hours", "downloads", "trainings"]


def test_the_flow_makes_a_pilot_that_does_not_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[RecipeName, int]] = []
    monkeypatch.setattr(planned, "create_markdown_artifact", lambda text, key: None)
    monkeypatch.setattr(planned, "run_pilot", lambda recipe, urls, version, own: asked.append((recipe, urls)))
    planned.plan.fn(recipe=RecipeName.SMOKE, cluster="", pilot_urls=5)
    assert asked == [(RecipeName.SMOKE, 5)]
