"""Numbers are shown where they can be, and a run goes on where they cannot."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.ref import Ref
from stages.training.sinks import Sinks

REF = Ref(name="checkpoints/x", version="t")


def test_event_files_are_written_by_the_first_process_alone(tmp_path: Path) -> None:
    for first in (False, True):
        sinks = Sinks(REF, first=first, home=tmp_path)
        sinks.write(1, {"loss": 2.0})
        sinks.close()
        assert len(list(tmp_path.rglob("events.*"))) == first


def test_wandb_is_told_only_where_a_project_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    Sinks(REF, first=True, home=tmp_path).write(1, {"loss": 2.0})
    assert told == []
    monkeypatch.setenv("WANDB_PROJECT", "p")
    sinks = Sinks(REF, first=True, home=tmp_path)
    sinks.write(1, {"loss": 2.0})
    sinks.close()
    assert told == [(1, {"loss": 2.0}), "end"]


def test_what_fails_is_told_no_more_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: Any) -> Any:
        raise RuntimeError("no network")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setenv("WANDB_PROJECT", "p")
    sinks = Sinks(REF, first=True, home=tmp_path)
    sinks.write(1, {"loss": 2.0})
    sinks.write(2, {"loss": 1.0})
    assert caplog.text.count("Weights & Biases is not told any more: no network") == 1
