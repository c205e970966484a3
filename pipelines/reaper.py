"""Stop what nobody waits for any more: Ray jobs whose flow run was cancelled or is gone, and runs without a process.

Hooks of Prefect run where the flow ran: where that machine is lost, nobody stops its jobs. Whether a flow's process
lives is told by its lease in the store (`pipelines.presence`): a process of this machine is asked for, one of another
machine is gone when its lease stood still for minutes while we watched. Only jobs of this installation are touched.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from infra.installation import installation
from infra.jobs import Jobs
from infra.lease import Tenure, Watch
from infra.settings import settings
from infra.storage import Store
from pipelines import notices
from pipelines.owners import owners_of
from pipelines.presence import forget, tenures

EVERY_SECONDS = 15.0
DEAD_SECONDS = 30.0
"""Prefect's own Runner has so long to notice that a process of this machine died."""
SILENT_SECONDS = 300.0
"""A lease that was not renewed for so long belongs to a process that is gone with its machine."""
CANCELLING_SECONDS = 45.0
"""The Runner that cancels a run stops its jobs itself, after it has ended the process that would start them again."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A flow run as Prefect knows it."""

    id: str
    state: str
    since: float
    """When it came into this state, in seconds since 1970."""
    deployed: bool = True
    name: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


class Server(Protocol):
    """What is asked of Prefect."""

    def runs(self, ids: Iterable[str]) -> dict[str, Run]:
        """Return those of some runs that it knows."""
        ...

    def end(self, run: Run, state: str, message: str) -> None:
        """Set a run's last state, `CRASHED` or `CANCELLED`."""
        ...


@dataclass
class Reaper:
    """Looks once per call; remembers since when it misses a run."""

    server: Server
    jobs: Any
    store: Store
    ours: str
    """Mark of this installation in a job's metadata."""
    grace_seconds: float
    notify: Callable[[Run, str], object]
    """Tells people of a run that crashed: where its process is gone, so are the hooks that would."""
    now: Callable[[], float] = time.time
    _missed: dict[str, float] = field(default_factory=dict)
    _watch: Watch = field(default_factory=lambda: Watch(2 * EVERY_SECONDS))

    def __call__(self) -> list[str]:
        """Mark runs whose process is gone, stop jobs that nobody waits for; return a sentence for each."""
        held = tenures(self.store)
        self._watch.keep(held)
        gone = {run: tenure for run, tenure in held.items() if self._is_gone(run, tenure)}
        return self._mark(gone) + self._reap(held.keys() - gone.keys())

    def _reap(self, living: Set[str]) -> list[str]:
        """Stop jobs that nobody waits for; `living` are runs with a process, also those of another Prefect."""
        running = [job for job in self.jobs.find("") if not job.over]
        jobs = [job for job in running if job.metadata.get("installation") == self.ours]
        attached = [(run, name) for _, run, name in (key.split("/") for key in self.store.keys("attached"))]
        owners = owners_of(jobs, self.store)
        runs = self.server.runs({each for ids in owners.values() for each in ids} | {run for run, _ in attached})
        stopped = []
        for job in jobs:
            if (why := self._orphaned(owners[job.submission_id], runs, living)) and self._done(
                f"stop the job {job.submission_id}", partial(self.jobs.stop, job.submission_id)
            ):
                stopped.append(f"stopped the job {job.submission_id}: {why}")
        for known in {*runs, *living}:
            self._missed.pop(known, None)
        names = {job.submission_id for job in running}
        for owner, name in attached:
            if (run := runs.get(owner)) and run.over and owner not in living and name not in names:
                self._done(f"tidy away the run {owner}", partial(self.store.remove, f"attached/{owner}/{name}"))
        return stopped

    @staticmethod
    def _done(what: str, act: Callable[[], None]) -> bool:
        """Do one thing and say whether it succeeded: a failure is tried again next round, and stops no other."""
        try:
            act()
        except Exception as error:
            log.warning("could not %s: %s: %s", what, type(error).__name__, error)
            return False
        return True

    def _mark(self, gone: Mapping[str, Tenure]) -> list[str]:
        """Give a last state to runs whose process does not live; return what was done."""
        done: list[str] = []
        for run in self.server.runs(gone).values():
            self._done(f"end the run {run.id}", partial(self._end, run, gone[run.id], done))
        return done

    def _end(self, run: Run, tenure: Tenure, done: list[str]) -> None:
        if run.state in ("RUNNING", "PAUSED") and not (run.state == "PAUSED" and run.deployed):
            why = f"its process {tenure.holder} is gone; what it made is kept: run it again"
            self.server.end(run, "CRASHED", why)
            done.append(f"marked the run {run.id} crashed")
            self.notify(run, why)
        elif run.state == "CANCELLING":
            self.server.end(run, "CANCELLED", f"its process {tenure.holder} is gone")
            done.append(f"marked the run {run.id} cancelled")
        forget(self.store, run.id, tenure.number)

    def _is_gone(self, run: str, tenure: Tenure) -> bool:
        """Say whether a run's process does not live; one of this machine that lives is never gone."""
        still = self._watch.still(run, tenure)
        return not tenure.living and still >= (DEAD_SECONDS if tenure.free else SILENT_SECONDS)

    def _orphaned(self, owners: Sequence[str], runs: Mapping[str, Run], living: Set[str]) -> str:
        """Return why nobody waits for a job, empty where somebody does or may again."""
        states = []
        for owner in owners:
            if not owner:
                return ""  # started by hand
            run = runs.get(owner)
            if run is None and owner in living:
                return ""  # a run of another Prefect than ours, which works
            since = run.since if run else self._missed.setdefault(owner, self.now())
            state = run.state if run else "GONE"
            grace = {"CANCELLED": 0.0, "CANCELLING": CANCELLING_SECONDS}.get(state, self.grace_seconds)
            waits = run is not None and not run.over and state != "CANCELLING"
            if waits or self.now() - since < grace:
                return ""
            states.append(f"run {owner} is {state.lower()}")
        return ", ".join(states)


class Prefect:
    """The Prefect server of this installation."""

    def runs(self, ids: Iterable[str]) -> dict[str, Run]:
        """Return those of some runs that it knows."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        wanted = _uuids(ids)
        found: dict[str, Run] = {}
        with get_client(sync_client=True) as client:
            for start in range(0, len(wanted), 100):
                some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + 100]))
                for run in client.read_flow_runs(flow_run_filter=some):
                    if run.state is not None:
                        since = run.state.timestamp.timestamp()
                        deployed = run.deployment_id is not None
                        found[str(run.id)] = Run(str(run.id), run.state.type.value, since, deployed, run.name)
        return found

    def end(self, run: Run, state: str, message: str) -> None:
        """Set a run's last state."""
        from uuid import UUID

        from prefect.client.orchestration import get_client
        from prefect.states import Cancelled, Crashed

        made: Any = Crashed(message=message) if state == "CRASHED" else Cancelled(message=message)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run.id), made, force=True)


def _uuids(ids: Iterable[str]) -> list[Any]:
    from uuid import UUID

    found = []
    for each in sorted(set(ids)):
        try:
            found.append(UUID(each))
        except ValueError:
            log.debug("%r is no flow run", each)
    return found


def _notify(run: Run, why: str) -> None:
    notices.send("failed", run.name, why, run.id)


def watch() -> None:
    """Look again and again, for as long as this process lives."""
    here = settings()
    jobs = Jobs(here.ray_jobs_address, patience_seconds=0)
    grace = here.orphan_grace_seconds
    reaper = Reaper(Prefect(), jobs, Store(here.store_root), installation(here), grace, _notify)
    while True:
        try:
            for sentence in reaper():
                log.warning(sentence)
        except Exception as error:
            # Prefect or Ray may be away for a while; what is to be reaped is there when they come back.
            log.warning("nothing could be reaped: %s: %s", type(error).__name__, error)
        time.sleep(EVERY_SECONDS)
