"""What an artifact that does not stand is doing: running, waiting, failed, or left where it was."""

from collections.abc import Collection
from enum import StrEnum

from pipelines.live.shelf import Begun

QUIET_SECONDS = 600.0
"""After so long a stage that says nothing may hang; where no cluster can be asked, it no longer counts as running."""


class Doing(StrEnum):
    """What has become of a stage that was begun."""

    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


def doing(begun: Begun, running: Collection[str] | None, now: float) -> Doing:
    """Say what a stage does.

    Args:
        begun: The stage's artifact.
        running: Artifacts that the cluster has a job for; None where it did not answer.
        now: Seconds since 1970.
    """
    told = begun.pace.at if begun.pace else 0.0
    if running is not None:
        alive = str(begun.ref) in running
    else:
        since_failure = begun.failure is None or begun.failure.at < told
        alive = since_failure and begun.pace is not None and now - told < QUIET_SECONDS
    if alive:
        return Doing.WAITING if begun.pace is not None and begun.pace.waiting else Doing.RUNNING
    return Doing.FAILED if begun.failure is not None else Doing.STOPPED
