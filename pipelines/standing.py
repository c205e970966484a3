"""How an installation stands, as `internvl status` tells it: what runs, what failed last, disk, links."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.job_list import running_jobs
from infra.settings import Settings
from infra.storage import Store
from pipelines.links import links, ray_asks, tensorboard
from pipelines.live.next_moves import next_move, words_of
from pipelines.live.shelf import Begun, Shelf
from pipelines.live.states import Doing, doing

LAST = 5
"""Failed runs that are told."""


@dataclass(frozen=True)
class Stage:
    """A stage whose artifact does not stand."""

    artifact: str
    stage: str
    doing: str
    share: float
    words: str
    rate: float | None
    remaining_seconds: float | None
    heard_seconds: float | None
    """Since it last told of itself."""
    message: str
    """Why it failed."""
    next: str


@dataclass(frozen=True)
class FlowRun:
    """A flow run of Prefect's."""

    name: str
    flow: str
    state: str
    message: str
    page: str


@dataclass(frozen=True)
class Disk:
    """Room where something is kept."""

    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Installation:
    """Everything that is told; None stands for a service that did not answer."""

    stages: tuple[Stage, ...]
    runs: tuple[FlowRun, ...] | None
    refused: str
    """Why Prefect does not let us in, with the next move; empty where it does."""
    failed_runs: tuple[FlowRun, ...]
    ray_answers: bool
    reports_answer: bool
    finished: int
    unreadable: tuple[str, ...]
    disks: tuple[Disk, ...]
    links: dict[str, str]
    tensorboard: str
    """The command that shows training's numbers; empty where nothing was trained on this machine."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def standing_of(here: Settings, shelf: Shelf) -> Installation:
    """Ask the store, Ray and Prefect."""
    from pipelines.health import answers
    from pipelines.prefect_door import refusal

    jobs, view, now = running_jobs(here), shelf.look(), time.time()
    running = None if jobs is None else {job.artifact for job in jobs}
    refused = refusal(here)
    runs = _runs(here) if not refused and answers(f"{here.prefect_api_url}/health") else None
    found, asks = links(here), ray_asks(here)
    return Installation(
        stages=tuple(_stage(each, doing(each, running, now), now) for each in view.begun),
        runs=None if runs is None else runs[0],
        refused=refused,
        failed_runs=() if runs is None else runs[1],
        ray_answers=jobs is not None,
        reports_answer=answers(f"{here.report_url}/healthz"),
        finished=len(view.finished),
        unreadable=view.unreadable,
        disks=disks(here),
        links={**found, "Ray dashboard": f"{found['Ray dashboard']}{f'  ({asks})' if asks else ''}"},
        tensorboard=tensorboard(here) if (here.home / "tensorboard").is_dir() else "",
    )


def _stage(begun: Begun, does: Doing, now: float) -> Stage:
    pace = begun.pace
    return Stage(
        artifact=str(begun.ref),
        stage=begun.stage,
        doing=does.value,
        share=pace.share if pace else 0.0,
        words=words_of(begun, does, now),
        rate=pace.rate if pace else None,
        remaining_seconds=pace.remaining_seconds if pace else None,
        heard_seconds=max(0.0, now - pace.at) if pace and pace.at else None,
        message=begun.failure.message if does is Doing.FAILED and begun.failure else "",
        next=next_move(begun, does, now),
    )


def disks(here: Settings) -> tuple[Disk, ...]:
    """Return the room of the state folder and of the store; a bucket has no end that could be told."""
    store = Store(here.store_root)
    found: dict[tuple[int, int], Disk] = {}
    for path in (here.home, *(() if store.remote else (Path(store.root),))):
        if path.exists():
            usage = shutil.disk_usage(path)
            # Both on one file system are one disk.
            found.setdefault((usage.total, path.stat().st_dev), Disk(str(path), usage.free, usage.total))
    return tuple(found.values())


def _runs(here: Settings) -> tuple[tuple[FlowRun, ...], tuple[FlowRun, ...]]:
    """Return the flow runs that are under way, and those that failed last."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    names: dict[Any, str] = {}

    def asked(types: list[StateType], limit: int) -> tuple[FlowRun, ...]:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types))),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=limit,
        )
        told = []
        for run in found:
            if run.flow_id not in names:
                names[run.flow_id] = client.read_flow(run.flow_id).name
            state, message = (run.state.name or "", run.state.message or "") if run.state else ("", "")
            page = f"{here.prefect_ui_url}/runs/flow-run/{run.id}"
            told.append(FlowRun(run.name, names[run.flow_id], state, message[:2000], page))
        return tuple(told)

    with get_client(sync_client=True) as client:
        under_way = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
        return asked(under_way, 50), asked([StateType.FAILED, StateType.CRASHED], LAST)
