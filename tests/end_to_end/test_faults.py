"""What happens when a part of the system dies, or a person changes their mind, in the middle of a stage."""

import os
import signal
import subprocess
import urllib.error
from typing import Any

import pytest
from installation import Installation, wait_for

from infra.processes import drivers_of

pytestmark = pytest.mark.timeout(1800)
ENDLESS = "schedule.steps=1000000"


def files_of(here: Installation, ref: str) -> dict[str, str]:
    """Return a hash per published part, the same for the same work whatever its version's name."""
    return {f"{part.key}/{role}": f.sha256 for part in here.manifest(ref).parts for role, f in part.files.items()}


def test_a_killed_flow_and_a_killed_worker_change_nothing_in_the_result(smoke: Installation) -> None:
    words = ("rerun", "download", "--recipe", "smoke", "--source", "cc3m", "--new-version", "killed")
    flow = smoke.begin(*words)
    job = wait_for("the job", lambda: smoke.job("pool/cc3m@killed"))
    os.kill(flow.pid, signal.SIGKILL)
    flow.communicate()
    worker = wait_for("a worker that fetches", smoke.workers, 60)[0]
    os.kill(worker, signal.SIGKILL)
    assert smoke.job("pool/cc3m@killed")["submission_id"] == job["submission_id"], "the job outlives the flow process"
    smoke.internvl(*words)
    assert files_of(smoke, "pool/cc3m@killed") == files_of(smoke, "pool/cc3m@smoke")
    ended = [j for j in smoke.jobs() if j["metadata"]["artifact"] == "pool/cc3m@killed"]
    assert [(j["submission_id"], j["status"]) for j in ended] == [(job["submission_id"], "SUCCEEDED")]


def test_a_killed_job_is_started_once_more(smoke: Installation) -> None:
    flow = smoke.begin("rerun", "download", "--recipe", "smoke", "--source", "cc3m", "--new-version", "driver")
    wait_for("the job", lambda: smoke.job("pool/cc3m@driver"))
    (driver,) = wait_for("its process", lambda: drivers_of(smoke.home), 60)
    os.kill(driver, signal.SIGKILL)
    text, _ = flow.communicate(timeout=600)
    assert flow.returncode == 0, text[-3000:]
    assert files_of(smoke, "pool/cc3m@driver") == files_of(smoke, "pool/cc3m@smoke")
    ended = [j["status"] for j in smoke.jobs() if j["metadata"]["artifact"] == "pool/cc3m@driver"]
    assert sorted(ended) == ["FAILED", "SUCCEEDED"]


def test_a_run_whose_process_was_killed_is_marked_and_its_job_stopped_after_the_grace_time(
    smoke: Installation,
) -> None:
    artifact = "checkpoints/language@orphan"
    flow = smoke.begin("rerun", "language", "--recipe", "smoke", "--set", ENDLESS, "--new-version", "orphan")
    run = wait_for("the job", lambda: smoke.job(artifact))["metadata"]["flow_run_id"]
    os.kill(flow.pid, signal.SIGKILL)
    flow.communicate()

    def state() -> Any:
        return smoke.api("GET", f"/flow_runs/{run}")["state"]

    wait_for("the run to be marked", lambda: state()["type"] == "CRASHED")
    assert "is gone; what it made is kept" in state()["message"]
    assert smoke.job(artifact), "the job goes on for the grace time: a retry finds it again"
    impatient = {**smoke.environment, "INTERNVL_ORPHAN_GRACE_SECONDS": "0"}
    reaper = subprocess.Popen(smoke.command("reap"), env=impatient)
    try:
        wait_for("the job to stop", lambda: smoke.job(artifact, "STOPPED"))
    finally:
        reaper.kill()
        reaper.wait()


def test_wrong_parameters_of_a_form_start_no_run(installation: Installation) -> None:
    deployment = installation.api("GET", "/deployments/name/rerun/rerun")
    with pytest.raises(urllib.error.HTTPError) as refused:
        body = {"parameters": {"stage": "scoring"}}
        installation.api("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
    assert refused.value.code in (409, 422)


def test_ctrl_c_stops_our_jobs_and_says_what_is_kept(smoke: Installation) -> None:
    words = ("rerun", "language", "--recipe", "smoke", "--set", ENDLESS, "--new-version", "interrupted")
    flow = smoke.begin(*words)
    wait_for("the job", lambda: smoke.job("checkpoints/language@interrupted"))
    os.kill(flow.pid, signal.SIGINT)
    text, _ = flow.communicate(timeout=120)
    assert flow.returncode == 130, text[-3000:]
    assert "finished parts are kept: run the same command to go on" in text
    assert "Traceback" not in text
    wait_for("the job to stop", lambda: smoke.job("checkpoints/language@interrupted", "STOPPED"))
