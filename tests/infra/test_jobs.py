import socket
import time

import pytest

from infra.jobs import Job, Jobs, JobsUnreachable


def test_a_cluster_that_does_not_answer_is_named_with_the_next_move() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(JobsUnreachable, match=r"did not answer .* `internvl up`"):
        Jobs(address, patience_seconds=0.1).find("")


class _Answers:
    """Stands for Ray's client: gives or raises one prepared answer after the other."""

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), 0

    def list_jobs(self) -> object:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_fault_of_a_busy_cluster_is_waited_out_and_a_refusal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    jobs = Jobs("http://127.0.0.1:1", patience_seconds=60)
    jobs._client = busy = _Answers(RuntimeError("Request failed with status code 503: later"), OSError("reset"), [])
    assert jobs.find("") == [] and busy.asked == 3
    jobs._client = refused = _Answers(RuntimeError("Request failed with status code 404: no such job"), [])
    with pytest.raises(RuntimeError, match="404"):
        jobs.find("")
    assert refused.asked == 1


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


class _Submits:
    """Stands for Ray's client, which knows a job by its name."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def submit_job(self, submission_id: str, **_: object) -> None:
        if submission_id in self.names:
            raise RuntimeError(f"Job with submission_id {submission_id} already exists.")
        self.names.add(submission_id)


def test_who_submits_hears_whether_it_was_the_first() -> None:
    jobs = Jobs("http://127.0.0.1:1")
    jobs._client = _Submits()
    assert [jobs.submit(name, "true", {}, {}) for name in ("a", "a", "b")] == [True, False, True]
