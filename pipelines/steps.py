"""A stage as a Prefect task: found when it stands, else one Ray job that outlives this process."""

import functools
import json
import shlex
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run as current_flow

from infra.installation import installation
from infra.jobs import Job, Jobs
from infra.settings import quiet_environment, settings
from infra.storage import Store
from pipelines.graph import Step
from pipelines.job_ends import StageFailed, StageStopped, end_of
from pipelines.moves import tell
from pipelines.owners import attach, lives, owners_of
from pipelines.pages import in_a_line, progress_words, publish
from pipelines.patience import patiently
from stages.failures import forget_failure, note_failure
from stages.manifest import Manifest, digest_of, find
from stages.materialize import StageSpec, identity_of, standing
from stages.pace import Pace, duration
from stages.ref import Ref

POLL_SECONDS = 1.0
TRIES = 2  # a job that was killed is started once more by itself; a refusal or an exception is not
LOG_SECONDS = 15.0
"""Between two lines of progress in a run's log, which Prefect's database keeps; the artifact follows each change."""

_left = threading.Event()
"""Set when a stopped run gives up waiting for its jobs to end."""
_others: set[str] = set()
"""Jobs that a stopped run leaves to other runs, which wait for them too."""


@functools.cache
def jobs_of(address: str) -> Jobs:
    """Return this process's one client of a cluster."""
    return Jobs(address)


def submission_prefix(spec: StageSpec, store: Store) -> str:
    """Return the name that all attempts at this artifact with this identity share."""
    return (
        f"{spec.artifact.name.replace('/', '-')}-{spec.artifact.version}-{digest_of(identity_of(spec, store))[:12]}"
    )


@task(task_run_name="{step.label}", persist_result=False)
def run_step(step: Step, force: bool = False) -> str:
    """Make one artifact and return its reference; data never passes through Prefect.

    Raises:
        Drift: The version stands with other parameters.
        StageRefused: The stage gave a reason why it cannot work.
        StageLater: The job could not go on now; the same command does later.
        StageFailed: The job failed.
    """
    here = settings()
    store = Store(here.store_root)
    log = get_run_logger()
    if not force and (manifest := standing(step.spec, store)):
        log.info("%s stands (%s)", manifest.ref, manifest.digest[:12])
        tell(step.artifact, "stands")
        return str(manifest.ref)
    started = time.monotonic()
    tell(step.artifact, "starting")
    try:
        manifest = _make(step, store, jobs_of(here.ray_jobs_address), force, log)
    except Exception as error:
        if not isinstance(error, StageStopped):
            note_failure(store, step.spec.artifact, error, str(current_flow.id or ""))
        tell(step.artifact, "failed")
        raise
    seconds = time.monotonic() - started
    tell(step.artifact, "done", {"seconds": seconds})
    log.info("made %s in %s: %s", manifest.ref, duration(seconds), in_a_line(manifest))
    patiently(partial(publish, step.label, manifest, here.report_url))
    return str(manifest.ref)


def _make(step: Step, store: Store, jobs: Jobs, force: bool, log: Any) -> Manifest:
    """Return what a job made; what stood before stands until the job replaces it under its lease."""
    ref = step.spec.artifact
    before = _traces(store, ref)
    untouched = True
    for attempt in range(TRIES):
        # Only the first attempt starts from nothing: a second one goes on from the parts of the first, unless that
        # was killed before it had replaced anything.
        anew = force and (not attempt or (untouched and store.exists(ref.key("manifest.json"))))
        job = _follow(step, store, jobs, _attach_or_submit(step, store, jobs, anew, log), log)
        untouched = _traces(store, ref) == before
        # The manifest is the truth, where it is this job's: one can be called failed after its work was committed.
        old = untouched and job.status != "SUCCEEDED"
        if not old and (manifest := find(store, ref)):
            return manifest
        if not job.lost:
            break
        log.warning("%s was killed: %s", job.submission_id, job.message)
    raise end_of(step.label, job, jobs.log(job.submission_id))


def _traces(store: Store, ref: Ref) -> tuple[bytes, ...]:
    """Return what a job leaves last; its times differ even where it makes the same again."""
    return tuple(_read(store, ref.key(name)) for name in ("manifest.json", "run.json"))


def _read(store: Store, key: str) -> bytes:
    """Return what stands now, empty where nothing does: a job may remove it at any moment."""
    try:
        return store.read(key)
    except FileNotFoundError:
        return b""


def _attach_or_submit(step: Step, store: Store, jobs: Jobs, force: bool, log: Any) -> Job:
    prefix = submission_prefix(step.spec, store)
    flow_run_id = str(current_flow.id or "")
    earlier = jobs.find(prefix)
    for job in earlier:
        if not job.over:
            log.info("found the running job %s again", job.submission_id)
            # The job belongs to a flow run that is gone; cancelling this one must find it as well.
            attach(store, flow_run_id, job.submission_id)
            return job
    spec_key = f"specs/{prefix}.json"
    store.write(spec_key, step.spec.model_dump_json().encode())
    name = f"{prefix}-{len(earlier)}"
    command = f"{shlex.quote(sys.executable)} -m stages.run {shlex.quote(spec_key)}" + (" --force" if force else "")
    here = settings()
    artifact = str(step.spec.artifact)
    metadata = {"artifact": artifact, "flow_run_id": flow_run_id, "installation": installation(here)}
    forget_failure(store, step.spec.artifact)
    if jobs.submit(name, command, {**quiet_environment(here), "INTERNVL_JOB": name}, metadata):
        log.info("submitted %s", name)
    else:
        log.info("another run was faster and submitted %s", name)
        attach(store, flow_run_id, name)
    return jobs.status(name)


def _follow(step: Step, store: Store, jobs: Jobs, job: Job, log: Any) -> Job:
    begins = progress_words(step.label, "starting", step.spec.artifact, settings().report_url)
    progress_id: Any = patiently(partial(create_progress_artifact, progress=0.0, description=begins))
    key = step.spec.artifact.key("progress.json")
    last = _read(store, key)  # an earlier run's, so not shown
    said, said_at = "", -LOG_SECONDS
    while not job.over:
        if job.submission_id in _others:
            raise StageStopped(f"{step.label} goes on: another run waits for its job {job.submission_id}")
        if _left.is_set():
            raise StageFailed(
                f"{step.label} did not stop; its job {job.submission_id} runs on: internvl down ends it"
            )
        time.sleep(POLL_SECONDS)
        if (data := _read(store, key)) and data != last:
            last, progress = data, json.loads(data)
            pace = Pace.of(progress)
            told = progress_words(step.label, pace.words(), step.spec.artifact, settings().report_url)
            patiently(partial(update_progress_artifact, progress_id, progress=100 * pace.share, description=told))
            if (words := pace.words()) != said and time.monotonic() - said_at >= LOG_SECONDS:
                log.info("%s", words)
                said, said_at = words, time.monotonic()
            tell(step.artifact, "running", progress)
        job = jobs.status(job.submission_id)
    share = 100.0 if job.status == "SUCCEEDED" else 0.0
    patiently(partial(update_progress_artifact, progress_id, progress=share))
    return job


def leave() -> None:
    """Wait no longer for jobs that do not end."""
    _left.set()


def stop_jobs(flow: Any, flow_run: Any, state: Any) -> None:
    """Stop the Ray jobs of a cancelled flow run, but those that another run waits for.

    Prefect passes exactly these three names.
    """
    here = settings()
    jobs, store, run = Jobs(here.ray_jobs_address, patience_seconds=30), Store(here.store_root), str(flow_run.id)
    living = [job for job in jobs.find("") if not job.over]
    for name, owners in owners_of(living, store).items():
        if run not in owners:
            continue
        if any(lives(store, each) for each in owners if each != run):
            _others.add(name)
        else:
            jobs.stop(name)


def stop_steps(steps: Sequence[Step]) -> None:
    """Stop the jobs that make these steps' artifacts, where they run; what they did is kept."""
    here = settings()
    for step in steps:
        jobs = jobs_of(here.ray_jobs_address)
        for job in jobs.find(submission_prefix(step.spec, Store(here.store_root))):
            if not job.over:
                jobs.stop(job.submission_id)
