import socket
import time

import pytest

from infra.jobs import Job, Jobs, JobsUnreachable


def test_a_cluster_that_does_not_answer_is_named_with_the_next_move() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(JobsUnreachable, match=r"did not answer .* `internvl up`"):
        Jobs(address, patience_seconds=0.1).find("")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("status", "exit_code", "over", "lost"),
    [
        ("RUNNING", None, False, False),
        ("SUCCEEDED", 0, True, False),
        ("FAILED", 1, True, False),
        ("FAILED", 2, True, False),
        ("FAILED", -9, True, True),
        ("FAILED", 137, True, True),
        ("FAILED", None, True, True),
        ("STOPPED", None, True, False),
    ],
)
def test_a_killed_job_is_told_from_one_that_failed(
    status: str, exit_code: int | None, over: bool, lost: bool
) -> None:
    job = Job("name", status, "", {}, exit_code)
    assert (job.over, job.lost) == (over, lost)
