"""A job that made nothing says why in its own words, and the command ends with 75 where the same may work later."""

from pathlib import Path

import pytest
import typer

from infra.jobs import Job
from infra.settings import settings
from pipelines import terminal
from pipelines.job_ends import StageFailed, StageLater, StageRefused, StageStopped, end_of

LOG = "2026 INFO begins\nrefused: of an earlier try\nlater: s3://b does not answer;\nrun the same command again"


def job(status: str = "FAILED", code: int | None = 1) -> Job:
    return Job("name", status, "Job entrypoint command failed", {}, code)


def test_the_words_of_the_job_are_what_is_told() -> None:
    later = end_of("download own", job(code=75), LOG)
    assert type(later) is StageLater
    assert str(later) == "download own: s3://b does not answer;\nrun the same command again"
    refused = end_of("list_urls own", job(code=2), "refused: earlier\nrefused: no column 'url'\nbut others\n")
    assert type(refused) is StageRefused and str(refused) == "no column 'url'\nbut others"


def test_an_exit_code_without_its_words_is_a_failure() -> None:
    for code in (1, 2, 75):
        failed = end_of("score own", job(code=code), "Traceback\nKeyError")
        assert type(failed) is StageFailed and str(failed).startswith("score own failed: Job entry"), code
        assert str(failed).endswith("Traceback\nKeyError")
    assert type(end_of("score own", job("STOPPED", None), LOG)) is StageStopped


@pytest.mark.parametrize(
    ("raised", "code"), [(StageLater("x: the store does not answer"), 75), (StageFailed("x"), 2)]
)
def test_the_command_ends_with_75_where_it_may_be_given_again(
    raised: Exception, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.setattr(terminal, "start", lambda here: None)

    def begin() -> list[str]:
        raise raised

    with pytest.raises(typer.Exit) as ended, terminal.clear_errors():
        terminal.run_flow(settings(), begin)
    assert ended.value.exit_code == code
