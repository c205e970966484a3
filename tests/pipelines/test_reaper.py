"""Jobs that nobody waits for are stopped, runs without a process get their last state; all else is left alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra import lease
from infra.jobs import Job
from infra.lease import Lease
from infra.storage import Store
from pipelines import reaper as module
from pipelines.presence import FOLDER
from pipelines.reaper import CANCELLING_SECONDS, Reaper, Run

GRACE = 1800.0


@dataclass
class World:
    """A Prefect, a Ray and a store that remember what was asked of them."""

    store: Store
    known: dict[str, Run] = field(default_factory=dict)
    all: list[Job] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    noticed: list[str] = field(default_factory=list)
    clock: float = 10_000.0

    def __post_init__(self) -> None:
        self.reaper = Reaper(self, self, self.store, "us", GRACE, self.notify, lambda: self.clock)

    def runs(self, ids: Iterable[str]) -> dict[str, Run]:
        return {each: self.known[each] for each in ids if each in self.known}

    def end(self, run: Run, state: str, message: str) -> None:
        self.ended[run.id] = f"{state} {message}"

    def notify(self, run: Run, why: str) -> None:
        self.noticed.append(f"{run.id} {why}")

    def find(self, prefix: str) -> list[Job]:
        return self.all

    def stop(self, name: str) -> None:
        self.stopped.append(name)

    def run(self, state: str, ago: float = 0.0, **facts: Any) -> str:
        made = str(uuid4())
        self.known[made] = Run(made, state, self.clock - ago, **facts)
        return made

    def job(self, name: str, run: str, status: str = "RUNNING", mark: str = "us") -> None:
        self.all.append(Job(name, status, "", {"flow_run_id": run, "installation": mark}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(str(tmp_path)))


@pytest.mark.parametrize(
    ("state", "ago", "goes"),
    [
        ("CANCELLED", 0, True),
        ("CANCELLING", 0, False),
        ("CANCELLING", CANCELLING_SECONDS, True),
        ("CRASHED", GRACE - 1, False),
        ("CRASHED", GRACE, True),
        ("FAILED", GRACE + 1, True),
        ("RUNNING", 9 * GRACE, False),
        ("PENDING", 9 * GRACE, False),
        ("PAUSED", 9 * GRACE, False),
    ],
)
def test_a_job_is_stopped_when_its_run_was_cancelled_or_is_over_for_long(
    world: World, state: str, ago: float, goes: bool
) -> None:
    world.job("one", world.run(state, ago))
    world.job("over", world.run(state, ago), status="SUCCEEDED")
    said = world.reaper()
    assert world.stopped == (["one"] if goes else [])
    assert [f"is {state.lower()}" in each for each in said] == [True] * goes


def test_jobs_that_are_not_ours_are_never_touched(world: World) -> None:
    gone = world.run("CANCELLED")
    world.job("others", gone, mark="them")
    world.all.append(Job("unmarked", "RUNNING", "", {"flow_run_id": gone}))
    world.job("by hand", "")
    world.clock += 9 * GRACE
    assert world.reaper() == []
    assert world.stopped == []


def test_a_run_that_prefect_does_not_know_is_missed_for_the_grace_time(world: World) -> None:
    world.job("one", str(uuid4()))
    for passed in (0.0, GRACE - 1):
        world.clock = 10_000 + passed
        assert world.reaper() == []
    world.clock = 10_000 + GRACE
    assert len(world.reaper()) == 1
    assert world.stopped == ["one"]


def test_a_job_that_another_run_found_again_goes_on(world: World) -> None:
    world.job("one", world.run("CANCELLED"))
    heir = world.run("RUNNING")
    world.store.write(f"attached/{heir}/one", b"")
    assert world.reaper() == []
    world.known[heir] = Run(heir, "CANCELLED", world.clock)
    world.reaper()
    assert world.stopped == ["one"]


def held_by_the_dead(world: World, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the lease of a process that was killed."""
    if not (child := os.fork()):
        Lease.take(world.store, f"{FOLDER}/{run}", "flow run x")
        os._exit(0)
    os.waitpid(child, 0)
    monkeypatch.setattr(module, "DEAD_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("state", "deployed", "ends"),
    [
        ("RUNNING", True, "CRASHED"),
        ("PAUSED", False, "CRASHED"),
        ("PAUSED", True, None),
        ("CANCELLING", False, "CANCELLED"),
        ("COMPLETED", True, None),
    ],
)
def test_a_run_whose_process_is_gone_gets_its_last_state(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, deployed: bool, ends: str | None
) -> None:
    run = world.run(state, deployed=deployed)
    held_by_the_dead(world, run, monkeypatch)
    world.reaper()
    assert [said.partition(" ")[0] for said in world.ended.values()] == ([ends] if ends else [])
    assert f"process {os.getpid()}" not in str(world.ended)
    assert len(world.noticed) == (ends == "CRASHED"), "a hook of its process would have told the rest"
    assert world.reaper() == [], "said once"
    assert len(world.noticed) == (ends == "CRASHED"), "and told once"


def test_a_run_whose_process_lives_or_only_just_died_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.run("RUNNING")
    held = Lease.take(world.store, f"{FOLDER}/{run}", "flow run x")
    assert world.reaper() == []
    held.give_back()
    held_by_the_dead(world, world.run("RUNNING"), monkeypatch)
    monkeypatch.setattr(module, "DEAD_SECONDS", 30.0)
    assert world.reaper() == []
    assert world.ended == {}


def test_a_process_of_another_machine_is_given_up_after_its_silence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.run("RUNNING")
    with monkeypatch.context() as patch:
        elsewhere = {"host": "far", "machine": "far", "pid": 1, "started": "1"}
        patch.setattr(lease, "here", lambda: dict(elsewhere))
        Lease.take(world.store, f"{FOLDER}/{run}", "flow run x", ttl_seconds=9999)
    assert world.reaper() == []
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    assert world.reaper() == [f"marked the run {run} crashed"]
    assert "flow run x (process 1 on far) is gone" in world.ended[run]


def test_a_process_of_this_machine_that_lives_is_never_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.run("RUNNING")
    held = Lease.take(world.store, f"{FOLDER}/{run}", "flow run x", ttl_seconds=9999)  # asleep: it renews nothing
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(module, "DEAD_SECONDS", 0.0)
    assert world.reaper() == [] and world.ended == {}
    held.give_back()


def test_a_run_of_another_prefect_keeps_its_jobs_while_its_process_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = str(uuid4())
    held = Lease.take(world.store, f"{FOLDER}/{stranger}", "flow run x")
    world.job("one", stranger)
    for _ in range(3):
        world.clock += 9 * GRACE
        assert world.reaper() == []
    monkeypatch.setattr(module, "DEAD_SECONDS", 0.0)
    held.give_back()
    assert world.reaper() == [], "the grace time begins with its end"
    world.clock += GRACE
    world.reaper()
    assert world.stopped == ["one"]


def test_one_failure_stops_no_other_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, good = world.run("RUNNING"), world.run("RUNNING")
    for run in (broken, good):
        held_by_the_dead(world, run, monkeypatch)
    for name in ("one", "two"):
        world.job(name, world.run("CANCELLED"))
    end, stop = world.end, world.stop

    def refuse_end(run: Run, state: str, message: str) -> None:
        if run.id == broken:
            raise RuntimeError("409")
        end(run, state, message)

    def refuse_stop(name: str) -> None:
        if name == "one":
            raise RuntimeError("gone meanwhile")
        stop(name)

    monkeypatch.setattr(world, "end", refuse_end)
    monkeypatch.setattr(world, "stop", refuse_stop)
    said = world.reaper()
    assert list(world.ended) == [good] and world.stopped == ["two"]
    assert len(said) == 2, "only what was done is told"
    monkeypatch.undo()
    monkeypatch.setattr(module, "DEAD_SECONDS", 0.0)
    world.reaper()
    assert broken in world.ended and "one" in world.stopped, "tried again"


def test_the_lease_of_a_run_that_was_started_again_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.run("RUNNING")
    held_by_the_dead(world, run, monkeypatch)
    fresh: list[Lease] = []
    end = world.end

    def started_meanwhile(ended: Run, state: str, message: str) -> None:
        end(ended, state, message)
        fresh.append(Lease.take(world.store, f"{FOLDER}/{run}", "flow run x, again"))

    monkeypatch.setattr(world, "end", started_meanwhile)
    world.reaper()
    lease.check(world.store, f"{FOLDER}/{run}", fresh[0].number)
    fresh[0].give_back()


def test_what_was_attached_goes_with_its_run(world: World) -> None:
    over, goes_on, foreign = world.run("COMPLETED"), world.run("RUNNING"), str(uuid4())
    world.job("running", world.run("RUNNING"))
    for run, name in ((over, "ended"), (over, "running"), (goes_on, "ended"), (foreign, "ended")):
        world.store.write(f"attached/{run}/{name}", b"")
    world.reaper()
    left = {f"attached/{over}/running", f"attached/{goes_on}/ended", f"attached/{foreign}/ended"}
    assert set(world.store.keys("attached")) == left
