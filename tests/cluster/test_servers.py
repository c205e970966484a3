"""The road on the servers of a cluster: S3 that fails, Prefect on PostgreSQL, passwords; and a head that dies."""

import os
import signal
import urllib.error
import urllib.request

from equipped import Equipped
from installation import Installation, wait_for

from infra.processes import session_of
from pipelines.graph import data_steps, train_steps
from pipelines.health import basic
from pipelines.names import RecipeName
from pipelines.recipes import make
from stages.manifest import verify

RERUN = ("rerun", "download", "--recipe", "smoke", "--source", "cc3m", "--new-version")


def files_of(here: Installation, ref: str) -> dict[str, str]:
    """Return a hash per published part, the same for the same work whatever its version's name."""
    return {f"{part.key}/{role}": f.sha256 for part in here.manifest(ref).parts for role, f in part.files.items()}


def test_postgres_holds_the_road_that_a_pool_of_processes_ran(equipped: Equipped) -> None:
    recipe, run = make(RecipeName.SMOKE), equipped.road["id"]
    steps = [*data_steps(recipe, "smoke"), *train_steps(recipe, "smoke")]
    assert equipped.road["work_pool_name"] == "internvl"
    states = equipped.database.ask(
        f"select state_type, count(*) from task_run where flow_run_id = '{run}' group by 1"
    )
    assert states == [f"COMPLETED|{len(steps)}"]
    asked = f"select flow.name, state_type from flow_run join flow on flow.id = flow_id where flow_run.id = '{run}'"
    assert equipped.database.ask(asked) == ["internvl|COMPLETED"]
    for step in steps:
        assert verify(equipped.here.store, equipped.here.manifest(str(step.spec.artifact))) == []


def test_flows_and_jobs_on_a_failing_s3_make_the_files_that_they_make_on_disk(
    equipped: Equipped, data_on_s3: Installation
) -> None:
    assert all(equipped.faults.played[kind] for kind in ("503", "reset", "lost")), equipped.faults.played
    for step in data_steps(make(RecipeName.SMOKE), "smoke"):
        key = step.spec.artifact.key("manifest.json")
        assert data_on_s3.store.read(key) == equipped.here.store.read(key), step.artifact
        assert verify(data_on_s3.store, data_on_s3.manifest(str(step.spec.artifact))) == []


def test_a_prefect_that_is_started_again_in_the_middle_changes_nothing(equipped: Equipped) -> None:
    here = equipped.here
    flow = here.begin(*RERUN, "restarted")
    wait_for("the job", lambda: here.job("pool/cc3m@restarted"))
    (server,) = (service for service in here.services() if service.name == "prefect")
    for pid in session_of(server):
        os.kill(pid, signal.SIGKILL)
    here.internvl("up", timeout=900)
    text, _ = flow.communicate(timeout=1200)
    assert flow.returncode == 0, text[-3000:]
    assert files_of(here, "pool/cc3m@restarted") == files_of(here, "pool/cc3m@smoke")
    (ended,) = equipped.database.ask("select state_type from flow_run where parameters->>'new_version' = 'restarted'")
    assert ended == "COMPLETED"


def test_a_head_that_dies_is_said_in_bounded_time_and_a_new_one_goes_on(equipped: Equipped) -> None:
    here = equipped.here
    flow = here.begin(*RERUN, "headless")
    wait_for("the job", lambda: here.job("pool/cc3m@headless"))
    wait_for("a worker that fetches", here.workers)
    (ray,) = (service for service in here.services() if service.name == "ray")
    for pid in session_of(ray):
        if program(pid).endswith("gcs_server"):
            os.kill(pid, signal.SIGKILL)
    text, _ = flow.communicate(timeout=1200)
    assert flow.returncode == 2, text[-3000:]
    assert "did not answer" in text and "`internvl up`" in text and "Traceback" not in text
    here.internvl(*RERUN, "headless", timeout=1200)
    assert files_of(here, "pool/cc3m@headless") == files_of(here, "pool/cc3m@smoke")


def program(pid: int) -> str:
    """Return what a process runs, empty where it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def status(url: str, headers: dict[str, str], body: bytes | None = None) -> int:
    """Return what a server answers."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_prefect_answers_those_alone_who_know_the_password(equipped: Equipped) -> None:
    own = basic(equipped.here.environment["PREFECT_API_AUTH_STRING"])
    for wrong in ({}, basic("admin:wrong"), {"Authorization": "Bearer wrong"}):
        for path in ("/deployments/name/rerun/rerun", "/csrf-token?client=tests"):
            assert status(f"{equipped.here.prefect}/api{path}", wrong) == 401
        # What changes something is refused before: it also lacks the token against forged requests.
        assert status(f"{equipped.here.prefect}/api/flow_runs/filter", wrong, b"{}") in (401, 403)
    assert status(f"{equipped.here.prefect}/api/deployments/name/rerun/rerun", own) == 200
    # A page of another site has no token against forged requests, even where it has the password.
    elsewhere = {**own, "Origin": "http://elsewhere.example"}
    assert status(f"{equipped.here.prefect}/api/flow_runs/filter", elsewhere, b"{}") == 403


def test_ray_answers_those_alone_who_know_the_token(equipped: Equipped) -> None:
    url = f"http://127.0.0.1:{equipped.here.ports['RAY_DASHBOARD_PORT']}/api/jobs/"
    work = b'{"entrypoint": "touch /tmp/never"}'
    for body in (None, work):
        assert status(url, {}, body) == 401
        assert status(url, {"Authorization": "Bearer wrong"}, body) in (401, 403)
    assert status(url, {"Authorization": f"Bearer {equipped.canaries['ray']}"}) == 200
