"""Which flow runs wait for a Ray job: the one that submitted it, and those that found it again."""

from collections.abc import Sequence

from infra.jobs import Job
from infra.lease import newest
from infra.storage import Store
from pipelines.presence import FOLDER


def attach(store: Store, run: str, submission_id: str) -> None:
    """Write down that a flow run waits for a job that another one submitted."""
    store.write(f"attached/{run}/{submission_id}", b"")


def owners_of(jobs: Sequence[Job], store: Store) -> dict[str, list[str]]:
    """Return the flow runs that wait or waited for each job, its submitter first; an empty name is no flow run."""
    attached = [key.split("/") for key in store.keys("attached")] if jobs else []
    return {
        job.submission_id: list(
            dict.fromkeys(
                [
                    job.metadata.get("flow_run_id", ""),
                    *(run for _, run, name in attached if name == job.submission_id),
                ]
            )
        )
        for job in jobs
    }


def lives(store: Store, run: str) -> bool:
    """Say whether a flow run's process may live: its lease was not given back, nor is it known to be dead.

    One that died with its machine is found out by the reaper, which then stops its jobs.
    """
    tenure = newest(store, f"{FOLDER}/{run}") if run else None
    # One of another machine may be gone: then the reaper, which watches its lease, stops the job later.
    return tenure is not None and not tenure.free
