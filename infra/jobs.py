"""Ray's Jobs API as the flows use it: one job per stage, found again by its name."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE_SECONDS = 180.0
FINISHED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


class JobsUnreachable(RuntimeError):
    """The Ray cluster did not answer for minutes."""


@dataclass(frozen=True)
class Job:
    """What Ray says about a job."""

    submission_id: str
    status: str
    message: str
    metadata: dict[str, str]
    exit_code: int | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status in FINISHED

    @property
    def lost(self) -> bool:
        """Whether it failed for no reason of its own: killed, or gone with its machine."""
        return self.status == "FAILED" and (self.exit_code is None or not 0 <= self.exit_code < 128)


class Jobs:
    """A client that waits out short absences of the cluster."""

    def __init__(self, address: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Keep the address; the connection is made at the first call."""
        self._address, self._patience = address, patience_seconds
        self._client: Any = None

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        stop = time.monotonic() + self._patience
        while True:
            try:
                if self._client is None:
                    from ray.job_submission import JobSubmissionClient

                    self._client = JobSubmissionClient(self._address)
                return getattr(self._client, name)(*arguments, **named)
            except (OSError, RuntimeError) as error:
                # A busy cluster answers with a fault of its own (5xx) where a moment later it would do.
                if isinstance(error, RuntimeError) and "status code 5" not in str(error):
                    raise
                if time.monotonic() > stop:
                    raise JobsUnreachable(
                        f"Ray at {self._address} did not answer for {self._patience:.0f} s: {error}; "
                        "start it with `internvl up` and run again: finished parts are found"
                    ) from error
                time.sleep(2)

    def find(self, prefix: str) -> list[Job]:
        """Return the jobs whose name begins so, oldest first."""
        found = [job for job in self._call("list_jobs") if (job.submission_id or "").startswith(prefix)]
        found.sort(key=lambda job: job.start_time or 0)
        return [self._job(job) for job in found]

    def status(self, submission_id: str) -> Job:
        """Return a job's state."""
        return self._job(self._call("get_job_info", submission_id))

    @staticmethod
    def _job(job: Any) -> Job:
        status = job.status.value if hasattr(job.status, "value") else str(job.status)
        metadata = dict(job.metadata or {})
        return Job(job.submission_id, status, job.message or "", metadata, getattr(job, "driver_exit_code", None))

    def submit(
        self, submission_id: str, entrypoint: str, environment: Mapping[str, str], metadata: Mapping[str, str]
    ) -> bool:
        """Start a job; its driver takes no CPU of the cluster, so it never blocks the work that it spreads.

        Where a job of this name exists already, another process was faster, and its job is as good.

        Returns:
            Whether the job was started by this call, as far as its answer tells.
        """
        try:
            self._call(
                "submit_job",
                submission_id=submission_id,
                entrypoint=entrypoint,
                runtime_env={"env_vars": dict(environment)},
                metadata=dict(metadata),
                entrypoint_num_cpus=0,
            )
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise
            return False
        return True

    def stop(self, submission_id: str) -> None:
        """Ask a job to stop."""
        self._call("stop_job", submission_id)

    def log(self, submission_id: str) -> str:
        """Return everything that a job printed."""
        return str(self._call("get_job_logs", submission_id))
