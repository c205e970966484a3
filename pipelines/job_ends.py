"""How a stage's job can end without its artifact, and what is said of it."""

import os

from infra.jobs import Job
from stages.manifest import ManifestError

REFUSED, LATER = "refused: ", "later: "
"""What `stages.run` begins its last words with."""


class StageFailed(RuntimeError):
    """A stage's job ended without its manifest; the message holds the end of its log."""


class StageStopped(StageFailed):
    """A stage's job was stopped by a person."""


class StageLater(StageFailed):
    """A stage's job could not go on now: the store or a process of it did not answer, or it was told to stop."""


class StageRefused(ManifestError):
    """A stage refused its input or parameters; the message is the stage's own."""


def end_of(label: str, job: Job, log: str) -> Exception:
    """Return the error of a job that is over and made nothing.

    Args:
        label: What people call its step.
        job: The job.
        log: All that it printed.
    """
    lines = log.splitlines()
    if job.exit_code == 2 and (words := _last_words(lines, REFUSED)):
        return StageRefused(words)
    if job.status == "STOPPED":
        return StageStopped(f"{label} was stopped")
    if job.exit_code == os.EX_TEMPFAIL and (words := _last_words(lines, LATER)):
        return StageLater(f"{label}: {words}")
    return StageFailed(f"{label} {job.status.lower()}: {job.message}\n" + "\n".join(lines[-15:]))


def _last_words(lines: list[str], head: str) -> str:
    begins = [number for number, line in enumerate(lines) if line.startswith(head)]
    return "\n".join(lines[begins[-1] :]).removeprefix(head).rstrip() if begins else ""
