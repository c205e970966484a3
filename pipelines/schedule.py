"""Run the steps of a graph: independent ones together, each as soon as what it is made from stands."""

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from types import SimpleNamespace
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run as current_flow
from prefect.task_runners import ThreadPoolTaskRunner

from infra.settings import settings
from infra.storage import Store
from pipelines.graph import Step
from pipelines.moves import tell
from pipelines.pages import signpost, summary_of
from pipelines.patience import patiently
from pipelines.plan import STANDS, preflight, states_of
from pipelines.presence import present
from pipelines.remembered import remember_sources, remember_system
from pipelines.steps import leave, run_step, stop_jobs, stop_steps

TOGETHER = 3  # steps at once: two keep two cores busy while a third one starts
RUNNER: Any = ThreadPoolTaskRunner(max_workers=TOGETHER)
STOP_SECONDS = 90.0


def ready(steps: Sequence[Step], waiting: Sequence[Step], done: set[str]) -> list[Step]:
    """Return the waiting steps that can run now; those that wait for nothing come first.

    Such a step starts a chain of its own, and a long chain should start early.
    """
    # By version too: a later pass is made from an earlier version of the same artifact.
    ours = {step.spec.artifact for step in steps}
    free = [step for step in waiting if all(r.name in done or r not in ours for r in step.spec.inputs)]
    return sorted(free, key=lambda step: bool(step.spec.inputs))


def run_steps(steps: Sequence[Step], force: bool = False) -> list[str]:
    """Run steps and return the references that were made, in the order of the steps.

    After a failure no new step starts; those that run are waited for, because their work is kept.
    """
    store = Store(settings().store_root)
    preflight(steps, store, force)
    remember_sources(steps, store, force)
    remember_system(steps, store)
    tell("", "planned", {"steps": len(steps)})
    _show_the_way(states_of(steps, store), force)
    with present():
        return _run_all(steps, force)


def _show_the_way(states: Mapping[str, str], force: bool) -> None:
    """Put on the run's page how much there is to make and where to watch it, where there is anything to make."""
    if not current_flow.id or (not force and set(states.values()) == {STANDS}):
        return
    here, summary = settings(), summary_of(states, force)
    get_run_logger().info("%s; watch them at %s", summary, here.report_url)
    patiently(partial(create_markdown_artifact, signpost(f"{current_flow.name}", summary, here), description=summary))


def _run_all(steps: Sequence[Step], force: bool) -> list[str]:
    waiting, live, futures = list(steps), dict[Any, Step](), dict[str, Any]()
    failed: BaseException | None = None
    submit: Any = run_step.submit
    try:
        while waiting or live:
            done = {name for name, future in futures.items() if future not in live}
            for step in ready(steps, waiting, done)[: TOGETHER - len(live)] if failed is None else []:
                before = [futures[ref.name] for ref in step.spec.inputs if ref.name in futures]
                future = futures[step.artifact] = submit(step, force=force, wait_for=before)
                live[future] = step
                waiting.remove(step)
            if not live:
                break
            for future in _first(list(live)):
                live.pop(future)
                try:
                    future.result()
                except Exception as error:
                    failed = failed or error
            if failed is not None:
                # What follows a training that failed would wait for it.
                stop_steps([step for step in live.values() if step.spec.stage == "follow"])
    except KeyboardInterrupt:
        _stop(list(live))
        raise
    if failed is not None:
        raise failed
    return [str(futures[step.artifact].result()) for step in steps]


def _first(live: Sequence[Any]) -> list[Any]:
    """Return those that have ended, as soon as there is one."""
    ended, _ = wait([future.wrapped_future for future in live], return_when=FIRST_COMPLETED)
    return [future for future in live if future.wrapped_future in ended]


def _stop(live: Sequence[Any]) -> None:
    """Stop the jobs of this run, also one that was being submitted, until the steps have seen it."""
    run, stop = SimpleNamespace(id=current_flow.id), time.monotonic() + STOP_SECONDS
    while time.monotonic() < stop:
        try:
            stop_jobs(None, run, None)
        except Exception as error:
            # Whatever the cluster says, it is asked again: this run must not end while its jobs go on.
            print(f"jobs could not be stopped yet: {error}", file=sys.stderr)
        _, running = wait([future.wrapped_future for future in live], timeout=2)
        if not running:
            return
    leave()
