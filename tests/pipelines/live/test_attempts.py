"""What an earlier attempt left is never shown as what happens now: fail, then run again, then run or be stopped."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from infra.cluster import InlineCluster
from infra.jobs import Job
from infra.storage import Store
from pipelines import steps
from pipelines.graph import Step
from pipelines.live.shelf import Begun, Shelf
from pipelines.live.states import Doing, doing
from stages import materialize as module
from stages.manifest import Ledger, Manifest
from stages.materialize import StageSpec, materialize
from stages.output import Output
from stages.ref import Ref
from stages.workspace import Workspace

REF = Ref(name="listing/own", version="v1")
STEP = Step("list", StageSpec(stage="list_urls", artifact=REF, parameters={}))


class Parameters(BaseModel):
    """None."""


class World:
    """A store, and one job after the other that does as told and ends as told."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.known = store, list[Job]()
        self.end, self.act = "FAILED", self.nothing
        monkeypatch.setattr(steps, "jobs_of", lambda _: self)
        monkeypatch.setattr(module, "module_of", lambda _: self)
        for name in ("create_progress_artifact", "update_progress_artifact", "publish"):
            monkeypatch.setattr(steps, name, lambda *_, **__: None)
        monkeypatch.setattr(steps, "get_run_logger", lambda: logging.getLogger("test"))
        monkeypatch.setattr(steps, "current_flow", SimpleNamespace(id="run"))
        monkeypatch.setattr(steps, "POLL_SECONDS", 0.0)

    VERSION, Parameters = 1, Parameters
    act: Callable[[], object]
    middle: Callable[[], object]

    def nothing(self) -> None:
        """The job ended before it began."""

    def works(self) -> None:
        """The job makes its artifact as far as it gets."""
        materialize(STEP.spec, self.store, InlineCluster(), force=True)

    def run(self, _: Parameters, output: Output, here: Workspace) -> Manifest:
        self.middle()
        here.progress(1, 4, "parts")
        if self.end != "SUCCEEDED":
            raise RuntimeError("in the middle")
        return output.commit([output.part("0", "i", Ledger(listed=1, kept=1), {})])

    def find(self, prefix: str) -> list[Job]:
        return self.known

    def submit(self, name: str, command: str, environment: Any, metadata: dict[str, str]) -> bool:
        try:
            self.act()
        except RuntimeError as error:
            assert str(error) == "in the middle"
        self.known.append(Job(name, self.end, "its message", metadata, 0 if self.end == "SUCCEEDED" else 1))
        return True

    def status(self, name: str) -> Job:
        return self.known[-1]

    def log(self, name: str) -> str:
        return "the log"

    def begun(self) -> Begun:
        (found,) = Shelf(self.store).look().begun
        return found

    def try_it(self, force: bool = False) -> None:
        with pytest.raises(steps.StageFailed):
            steps.run_step.fn(STEP, force)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    return World(Store(str(tmp_path / "store")), monkeypatch)


def failed(world: World) -> None:
    """Leave what a failed attempt leaves: its note, and how far it came."""
    world.end, world.act, world.middle = "FAILED", world.works, world.nothing
    world.try_it()
    begun = world.begun()
    assert doing(begun, [], 0.0) is Doing.FAILED and begun.failure is not None
    assert "its message" in begun.failure.message and begun.pace is not None and begun.pace.done == 1


def test_an_attempt_that_failed_is_forgotten_when_the_next_one_works(world: World) -> None:
    failed(world)
    seen: list[Begun] = []
    world.middle = lambda: seen.append(world.begun())
    world.try_it()
    assert seen[0].failure is None and seen[0].pace is None, "nothing of the first attempt while the second works"
    assert doing(seen[0], [str(REF)], 0.0) is Doing.RUNNING
    assert doing(seen[0], None, 0.0) is Doing.STOPPED, "it has told nothing of itself yet"


@pytest.mark.parametrize("begins", [True, False])
def test_an_attempt_that_is_stopped_after_one_that_failed_has_not_failed(world: World, begins: bool) -> None:
    failed(world)
    world.end, world.act = "STOPPED", world.works if begins else world.nothing
    world.try_it()
    begun = world.begun()
    assert doing(begun, [], 0.0) is Doing.STOPPED and begun.failure is None


def test_one_that_is_made_again_by_force_is_not_shown_as_done(world: World) -> None:
    world.end, world.act, world.middle = "SUCCEEDED", world.works, world.nothing
    steps.run_step.fn(STEP)
    world.store.write(REF.key("progress.json"), json.dumps({"done": 4, "total": 4, "unit": "", "note": ""}).encode())
    seen: list[Begun] = []
    world.middle = lambda: seen.append(world.begun())
    steps.run_step.fn(STEP, force=True)
    assert seen[0].pace is None
