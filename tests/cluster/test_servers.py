"""The road on the servers of a cluster: S3 that fails, Prefect on PostgreSQL, passwords; and a head that dies."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from equipped import Equipped
from installation import Installation, wait_for

from infra.processes import Services, session_of
from infra.settings import Settings, quiet_environment
from pipelines.graph import data_steps, train_steps
from pipelines.health import ask, basic
from pipelines.launcher import bin_path
from pipelines.names import RecipeName
from pipelines.recipes import make
from stages.manifest import verify

pytestmark = pytest.mark.timeout(1800)
CODE = Path(__file__).parents[2]
RERUN = ("rerun", "download", "--recipe", "smoke", "--source", "cc3m", "--new-version")


def files_of(here: Installation, ref: str) -> dict[str, str]:
    """Return a hash per published part, the same for the same work whatever its version's name."""
    return {f"{part.key}/{role}": f.sha256 for part in here.manifest(ref).parts for role, f in part.files.items()}


def test_postgres_holds_the_runs_of_the_road(equipped: Equipped) -> None:
    states = equipped.database.ask("select state_type, count(*) from task_run group by 1")
    recipe = make(RecipeName.SMOKE)
    steps = [*data_steps(recipe, "smoke"), *train_steps(recipe, "smoke")]
    assert states == [f"COMPLETED|{len(steps)}"]
    assert set(equipped.database.ask("select distinct state_type from flow_run")) == {"COMPLETED"}
    assert equipped.database.ask("select name from flow where name = 'internvl'") == ["internvl"]


def test_flows_and_jobs_on_a_failing_s3_make_the_files_that_they_make_on_disk(equipped: Equipped) -> None:
    equipped.follow(equipped.on_s3.begin("run", "data", "--recipe", "smoke"))
    assert all(equipped.faults.played[kind] for kind in ("503", "reset", "lost")), equipped.faults.played
    for step in data_steps(make(RecipeName.SMOKE), "smoke"):
        key = step.spec.artifact.key("manifest.json")
        assert equipped.on_s3.store.read(key) == equipped.here.store.read(key), step.artifact
        assert verify(equipped.on_s3.store, equipped.on_s3.manifest(str(step.spec.artifact))) == []


def test_a_prefect_that_is_started_again_in_the_middle_changes_nothing(equipped: Equipped) -> None:
    here = equipped.here
    flow = here.begin(*RERUN, "restarted")
    wait_for("the job", lambda: here.job("pool/cc3m@restarted"))
    (server,) = (service for service in here.services() if service.name == "prefect")
    for pid in session_of(server):
        os.kill(pid, signal.SIGKILL)
    here.internvl("up", timeout=900)
    text, _ = flow.communicate(timeout=900)
    assert flow.returncode == 0, text[-3000:]
    assert files_of(here, "pool/cc3m@restarted") == files_of(here, "pool/cc3m@smoke")
    (ended,) = equipped.database.ask("select state_type from flow_run where parameters->>'new_version' = 'restarted'")
    assert ended == "COMPLETED"


def test_a_head_that_dies_is_said_in_bounded_time_and_a_new_one_goes_on(equipped: Equipped) -> None:
    here = equipped.here
    flow = here.begin(*RERUN, "headless")
    wait_for("the job", lambda: here.job("pool/cc3m@headless"))
    wait_for("a worker that fetches", here.workers, 120)
    (ray,) = (service for service in here.services() if service.name == "ray")
    for pid in session_of(ray):
        if program(pid).endswith("gcs_server"):
            os.kill(pid, signal.SIGKILL)
    text, _ = flow.communicate(timeout=600)
    assert flow.returncode == 2, text[-3000:]
    assert "did not answer" in text and "`internvl up`" in text and "Traceback" not in text
    here.internvl(*RERUN, "headless", timeout=1200)
    assert files_of(here, "pool/cc3m@headless") == files_of(here, "pool/cc3m@smoke")


def ports_of(here: Installation) -> dict[str, int]:
    """Return an installation's ports as its settings name them."""
    return {name.lower(): port for name, port in here.ports.items()}


def program(pid: int) -> str:
    """Return what a process runs, empty where it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def test_a_password_of_one_s_own_wins(equipped: Equipped) -> None:
    own = basic(equipped.here.environment["PREFECT_API_AUTH_STRING"])
    address = f"{equipped.here.prefect}/api/deployments/name/rerun/rerun"
    assert [ask(address, headers).status for headers in ({}, basic("admin:wrong"), own)] == [401, 401, 200]
    assert not (equipped.here.home / "prefect" / "password").exists()


def test_the_whole_road_is_started_through_the_api_in_a_pool_of_processes(equipped: Equipped) -> None:
    here = equipped.here
    Services(here.home).stop("deployments")  # the same flows are now a worker's
    environment = {
        **here.environment,
        **quiet_environment(Settings(home=here.home, store_root=here.store.root, **ports_of(here))),
        "INTERNVL_CODE": str(CODE),
        "INTERNVL_WORK_POOL": "internvl",
        "PYTHONPATH": str(CODE),
    }
    for words in (("work-pool", "create", "internvl", "--type", "process"), ("--no-prompt", "deploy", "--all")):
        done = subprocess.run(
            [bin_path("prefect"), *words], cwd=CODE, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    services = Services(here.home / "worker")
    services.start("worker", [bin_path("prefect"), "worker", "start", "--pool", "internvl"], environment)
    try:
        deployment = here.api("GET", "/deployments/name/internvl/internvl")
        assert deployment["work_pool_name"] == "internvl"
        body = {"parameters": {"recipe": "smoke"}}
        run = here.api("POST", f"/deployments/{deployment['id']}/create_flow_run", body)

        def state() -> str:
            found = str(here.api("GET", f"/flow_runs/{run['id']}")["state_type"])
            return found if found in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else ""

        ended = wait_for("the run to end", state, 900)
        assert ended == "COMPLETED", (here.home / "worker" / "logs" / "worker.log").read_text()[-4000:]
    finally:
        services.stop("worker")
