"""A stage as a Prefect task: found when it stands, else one Ray job that outlives this process."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run as current_flow

from infra.jobs import FINISHED, Job, Jobs
from infra.settings import quiet_environment, settings
from infra.storage import Store
from pipelines.graph import Step
from stages.manifest import Manifest, digest_of, find
from stages.materialize import StageSpec, identity_of, standing

POLL_SECONDS = 1.0

Watcher = Callable[[str, str, dict[str, Any]], None]
"""Called with (artifact, state, progress) as a step moves; the terminal draws its bars from it."""
_watchers: list[Watcher] = []


class StageFailed(RuntimeError):
    """A stage's job ended without its manifest; the message holds the end of its log."""


def watch(watcher: Watcher) -> None:
    """Hear of every step's progress in this process."""
    _watchers.append(watcher)


def _tell(step: Step, state: str, progress: dict[str, Any] | None = None) -> None:
    for watcher in _watchers:
        watcher(step.artifact, state, progress or {})


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
        StageFailed: The job failed.
    """
    here = settings()
    store = Store(here.store_root)
    log = get_run_logger()
    if not force and (manifest := standing(step.spec, store)):
        log.info("%s stands (%s)", manifest.ref, manifest.digest[:12])
        _tell(step, "stands")
        return str(manifest.ref)
    started = time.monotonic()
    _tell(step, "starting")
    if force:
        # From here on an old manifest no longer counts as the result of this run.
        store.remove(step.spec.artifact.key("manifest.json"))
    jobs = Jobs(here.ray_jobs_address)
    job = _attach_or_submit(step, store, jobs, force, log)
    job = _follow(step, store, jobs, job, log)
    # The manifest is the truth: a job can be called failed after its work was committed.
    manifest = find(store, step.spec.artifact)
    if manifest is None:
        _tell(step, "failed")
        raise StageFailed(f"{step.label} {job.status.lower()}: {job.message}\n{_last_lines(jobs, job)}")
    _tell(step, "done", {"seconds": time.monotonic() - started})
    _publish(step, manifest)
    return str(manifest.ref)


def _attach_or_submit(step: Step, store: Store, jobs: Jobs, force: bool, log: Any) -> Job:
    prefix = submission_prefix(step.spec, store)
    earlier = jobs.find(prefix)
    for job in earlier:
        if job.status not in FINISHED:
            log.info("found the running job %s again", job.submission_id)
            return job
    spec_key = f"specs/{prefix}.json"
    store.write(spec_key, step.spec.model_dump_json().encode())
    name = f"{prefix}-{len(earlier)}"
    command = f"{shlex.quote(sys.executable)} -m stages.run {shlex.quote(spec_key)}" + (" --force" if force else "")
    metadata = {"artifact": str(step.spec.artifact), "flow_run_id": str(current_flow.id or "")}
    jobs.submit(name, command, quiet_environment(settings()), metadata)
    log.info("submitted %s", name)
    return jobs.status(name)


def _follow(step: Step, store: Store, jobs: Jobs, job: Job, log: Any) -> Job:
    progress_id: Any = create_progress_artifact(progress=0.0, description=step.label)
    key, last = step.spec.artifact.key("progress.json"), ""
    while job.status not in FINISHED:
        time.sleep(POLL_SECONDS)
        if store.exists(key):
            text = store.read(key).decode()
            if text != last:
                last, progress = text, json.loads(text)
                share = 100 * progress["done"] / max(progress["total"], 1)
                update_progress_artifact(progress_id, progress=min(100.0, share))
                log.info("%s of %s %s %s", progress["done"], progress["total"], progress["unit"], progress["note"])
                _tell(step, "running", progress)
        job = jobs.status(job.submission_id)
    update_progress_artifact(progress_id, progress=100.0 if job.status == "SUCCEEDED" else 0.0)
    return job


def _last_lines(jobs: Jobs, job: Job, lines: int = 15) -> str:
    return "\n".join(jobs.log(job.submission_id).splitlines()[-lines:])


def _publish(step: Step, manifest: Manifest) -> None:
    """Show a step's numbers on the run's page."""
    here, ledger = settings(), manifest.ledger
    lines = [
        f"## {step.label}",
        "",
        f"listed {ledger.listed:,} = kept {ledger.kept:,} + rejected {ledger.rejected:,} + failed {ledger.failed:,}",
        "",
        f"[{manifest.ref}]({here.report_url}/{manifest.ref.folder}/), digest `{manifest.digest[:16]}`",
    ]
    for role, file in manifest.reports.items():
        lines.append(f"\n[Open the {role}]({here.report_url}/{manifest.key(file)})")
    if markdown := manifest.totals.get("markdown"):
        lines += ["", str(markdown)]
    plain = {k: v for k, v in manifest.totals.items() if isinstance(v, int | float | str) and k != "markdown"}
    outcomes = manifest.totals.get("outcomes", {})
    if plain or outcomes:
        lines += ["", "| | |", "| :-- | --: |", *(f"| {k} | {v} |" for k, v in {**plain, **outcomes}.items())]
    create_markdown_artifact("\n".join(lines), key=step.artifact.replace("/", "-").replace("_", "-").lower())


def stop_jobs(flow: Any, flow_run: Any, state: Any) -> None:
    """Stop the Ray jobs of a cancelled flow run; Prefect passes exactly these three names."""
    jobs = Jobs(settings().ray_jobs_address, patience_seconds=10)
    for job in jobs.find(""):
        if job.status not in FINISHED and job.metadata.get("flow_run_id") == str(flow_run.id):
            jobs.stop(job.submission_id)
