"""A step and its Ray job: what stands is kept until it is replaced, and whose a job is."""

import json
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal

from infra.jobs import Job
from infra.lease import Lease
from infra.storage import Store
from pipelines import moves, schedule, steps
from pipelines.graph import Step
from pipelines.job_ends import StageFailed, StageStopped
from stages.manifest import Ledger, Manifest, find
from stages.materialize import StageSpec
from stages.output import Output
from stages.ref import Ref

REF = Ref(name="listing/own", version="v1")
STEP = Step("list", StageSpec(stage="list_urls", artifact=REF, parameters={}))


def commit(store: Store, run: float = 0.0) -> Manifest:
    """Make the artifact as a job does: always the same, at another time."""
    output = Output(store, REF, "list_urls", {"same": True})
    made = output.commit([output.part("0", "i", Ledger(listed=1, kept=1), {"rows": ("0.bin", b"x")})])
    store.write(REF.key("run.json"), json.dumps({"started": run}).encode())
    return made


class Ray:
    """Jobs that end as told, one after the other: (status, exit code, what they do)."""

    def __init__(self, *ends: tuple[str, int | None, Callable[[], object]]) -> None:
        self.ends, self.commands, self.known = list(ends), list[str](), dict[str, Job]()
        self.stopped: list[str] = []
        self.first = True

    def find(self, prefix: str) -> list[Job]:
        return [job for name, job in self.known.items() if name.startswith(prefix)]

    def submit(self, name: str, command: str, environment: Any, metadata: dict[str, str]) -> bool:
        status, code, act = self.ends.pop(0)
        act()
        self.commands.append(command)
        self.known[name] = Job(name, status, "", metadata, code)
        return self.first

    def status(self, name: str) -> Job:
        return self.known[name]

    def stop(self, name: str) -> None:
        self.stopped.append(name)
        self.known[name] = replace(self.known[name], status="STOPPED")

    def log(self, name: str) -> str:
        return "the log"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    for name in ("create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(steps, name, lambda *_, **__: None)
    monkeypatch.setattr(steps, "submission_prefix", lambda *_: "listing-own-v1")
    monkeypatch.setattr(steps, "POLL_SECONDS", 0.0)
    return Store(str(tmp_path / "store"))


def make(store: Store, ray: Any, force: bool = True) -> Manifest:
    return steps._make(STEP, store, ray, force, logging.getLogger("test"))


def nothing() -> None:
    """Do nothing: the job ended before it began."""


def test_a_forced_step_keeps_what_stands_where_its_job_does_not_begin(world: Store) -> None:
    stood = commit(world)
    with pytest.raises(StageFailed, match="failed"):
        make(world, Ray(("FAILED", 1, nothing)))
    assert find(world, REF) == stood, "neither removed, nor taken for the result of this run"


def test_a_forced_step_returns_the_same_result_made_again(world: Store) -> None:
    stood = commit(world)

    def again() -> None:
        world.remove(REF.key("manifest.json"))
        commit(world, run=1.0)

    ray = Ray(("FAILED", -9, again))
    assert make(world, ray) == stood and ray.commands[0].endswith(" --force")


def test_a_killed_forced_job_goes_on_from_its_parts_once_it_removed_what_stood(world: Store) -> None:
    commit(world)

    def removed() -> None:
        world.remove(REF.key("manifest.json"))

    ray = Ray(("FAILED", -9, nothing), ("SUCCEEDED", 0, nothing))
    make(world, ray)
    assert [each.endswith(" --force") for each in ray.commands] == [True, True], "it had not begun"
    ray = Ray(("FAILED", -9, removed), ("SUCCEEDED", 0, lambda: commit(world)))
    make(world, ray)
    assert [each.endswith(" --force") for each in ray.commands] == [True, False]


def test_a_run_that_is_slower_to_submit_waits_for_the_job_of_the_other(
    world: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "current_flow", SimpleNamespace(id="slow"))
    ray = Ray(("SUCCEEDED", 0, lambda: commit(world)), ("SUCCEEDED", 0, nothing))
    make(world, ray, force=False)
    assert world.keys("attached") == [], "it was the first: the job's metadata names it"
    ray.first = False
    make(world, ray, force=False)
    assert world.keys("attached") == ["attached/slow/listing-own-v1-1"]


def cancel(ray: Ray, monkeypatch: pytest.MonkeyPatch, run: str) -> list[str]:
    monkeypatch.setattr(steps, "Jobs", lambda *_, **__: ray)
    steps.stop_jobs(None, SimpleNamespace(id=run), None)
    return ray.stopped


def test_a_cancelled_run_leaves_a_job_that_another_run_waits_for(
    world: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_others", set[str]())
    ray = Ray()
    ray.known["shared"] = Job("shared", "RUNNING", "", {"flow_run_id": "one"})
    ray.known["own"] = Job("own", "RUNNING", "", {"flow_run_id": "one"})
    ray.known["foreign"] = Job("foreign", "RUNNING", "", {"flow_run_id": "three"})
    world.write("attached/two/shared", b"")
    lease = Lease.take(world, "leases/flow_runs/two", "two")
    try:
        assert cancel(ray, monkeypatch, "one") == ["own"]
        with pytest.raises(StageStopped, match="another run waits for its job shared"):
            steps._follow(STEP, world, ray, ray.known["shared"], logging.getLogger("test"))  # type: ignore[arg-type]
    finally:
        lease.give_back()
    assert cancel(ray, monkeypatch, "two") == ["own", "shared"], "nobody else waits for it any more"


def test_a_job_that_should_add_to_what_stands_and_fails_is_no_success(world: Store) -> None:
    commit(world)
    with pytest.raises(StageFailed, match="failed"):
        make(world, Ray(("FAILED", 1, nothing)), force=False)


class Telling(Ray):
    """A job that tells of its progress at each look, and then ends."""

    def __init__(self, store: Store, *done: int) -> None:
        super().__init__()
        self.store, self.left, self.at = store, list(done), 0
        self.known["job"] = Job("job", "RUNNING", "", {})

    def status(self, name: str) -> Job:
        if not self.left:
            return replace(self.known[name], status="SUCCEEDED")
        self.at += 1
        told = {"done": self.left.pop(0), "total": 9, "unit": "parts", "note": "", "at": self.at}
        self.store.write(REF.key("progress.json"), json.dumps(told).encode())
        return self.known[name]


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, ["1 of 9 parts", "2 of 9 parts"]), (900.0, ["1 of 9 parts"])])
def test_a_log_has_a_line_for_news_alone_and_not_too_often(
    world: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, lines: list[str]
) -> None:
    monkeypatch.setattr(steps, "LOG_SECONDS", seconds)
    monkeypatch.setattr(moves, "_watchers", [])  # what a terminal of another test drew
    ray = Telling(world, 1, 1, 1, 2, 2)
    with caplog.at_level(logging.INFO, "test"):
        steps._follow(STEP, world, ray, ray.status("job"), logging.getLogger("test"))  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records if record.name == "test"] == lines


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_process_that_is_ended_lets_go_of_its_jobs_and_stops_those_of_a_cancelled_run(
    world: Store, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    def told(_: object) -> None:
        raise TerminationSignal(signal.SIGTERM)

    stopped: list[object] = []
    monkeypatch.setattr(steps, "_ended", threading.Event())
    monkeypatch.setattr(schedule, "run_step", SimpleNamespace(submit=lambda *_, **__: object()))
    monkeypatch.setattr(schedule, "_first", told)
    monkeypatch.setattr(schedule, "_cancelled", lambda: cancelled)
    monkeypatch.setattr(schedule, "stop_jobs", lambda *given: stopped.append(given))
    with pytest.raises(TerminationSignal):
        schedule._run_all([STEP], force=False)
    assert bool(stopped) == cancelled, "the job of a run that may come back goes on"
    ray = Ray()
    ray.known["job"] = Job("job", "RUNNING", "", {})
    with pytest.raises(steps.StageStopped, match="its flow process was ended"):
        steps._follow(STEP, world, ray, ray.known["job"], logging.getLogger("test"))  # type: ignore[arg-type]
