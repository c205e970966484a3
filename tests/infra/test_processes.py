import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.processes import SECRETS, Service, Services, alive, drivers_of, end, inherited, session_of, start_time

# A leader with a child; it prints the child's number and waits.
PARENT = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
    "print(child.pid, flush=True); time.sleep(300)"
)


def started(services: Services) -> tuple[Service, int]:
    service = services.start("parent", [sys.executable, "-c", PARENT], {})
    log = services.home / "logs" / "parent.log"
    stop = time.monotonic() + 60
    while not log.exists() or not log.read_text().strip():
        assert time.monotonic() < stop
        time.sleep(0.05)
    return service, int(log.read_text().split()[-1])


def gone(pid: int) -> bool:
    stop = time.monotonic() + 20
    while start_time(pid) is not None and time.monotonic() < stop:
        time.sleep(0.05)
    return start_time(pid) is None


def test_stop_ends_a_service_with_its_children_and_nothing_else(tmp_path: Path) -> None:
    services = Services(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as stranger:
        service, child = started(services)
        assert session_of(service) == [service.pid, child]
        assert services.find("parent") == service
        assert services.stop("parent")
        assert gone(service.pid) and gone(child)
        assert services.all() == [] and not services.stop("parent")
        assert stranger.poll() is None
        stranger.kill()


def test_what_a_killed_service_left_running_is_swept(tmp_path: Path) -> None:
    services = Services(tmp_path)
    service, child = started(services)
    os.kill(service.pid, signal.SIGKILL)
    os.waitpid(service.pid, 0)
    assert services.find("parent") is None and start_time(child) is not None
    assert services.sweep() == ["parent"]
    assert gone(child)
    assert services.sweep() == []


def test_a_number_that_somebody_else_has_now_is_not_ours(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True) as stranger:
        stale = Service(name="web", pid=stranger.pid, started="1")
        (tmp_path / "services.json").write_text(json.dumps([stale.model_dump()]))
        services = Services(tmp_path)
        assert not alive(stale) and session_of(stale) == []
        assert services.sweep() == [] and not services.stop("web")
        assert stranger.poll() is None
        stranger.kill()


def test_a_service_that_ends_at_once_is_seen_as_dead(tmp_path: Path) -> None:
    services = Services(tmp_path)
    service = services.start("short", [sys.executable, "-c", "print('no')"], {})
    os.waitpid(service.pid, 0)
    assert services.find("short") is None
    assert "no" in (tmp_path / "logs" / "short.log").read_text()


def test_a_service_inherits_no_secret_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the store")
    for service, own in (("ray", set[str]()), ("web", set[str]()), ("reports", {"INTERNVL_REPORT_TOKEN"})):
        told = inherited(service)
        assert {name for name, value in told.items() if value == "s3cret"} == own
        assert told["AWS_SECRET_ACCESS_KEY"] == "of the store" and "PATH" in told
    assert {"INTERNVL_WEBHOOK", "INTERNVL_WEBHOOK_SECRET", "PREFECT_API_AUTH_STRING"} <= set(inherited("deployments"))
    assert "PREFECT_SERVER_API_AUTH_STRING" in inherited("prefect")
    services = Services(tmp_path)
    dump = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
    os.waitpid(services.start("ray", dump, {"PREFECT_API_KEY": "given by name"}).pid, 0)
    printed = (tmp_path / "logs" / "ray.log").read_text()
    assert "INTERNVL_WEBHOOK" not in printed and "PREFECT_API_KEY" in printed


def test_drivers_are_found_by_their_installation(tmp_path: Path) -> None:
    def job(home: Path) -> "subprocess.Popen[bytes]":
        wait = "import time; print(1, flush=True); time.sleep(300)"
        command = [sys.executable, "-c", wait, "stages.run"]
        process = subprocess.Popen(command, env={"INTERNVL_HOME": str(home)}, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        return process

    with job(tmp_path / "ours") as ours, job(tmp_path / "theirs") as theirs:
        assert drivers_of(tmp_path / "ours") == [ours.pid]
        threading.Thread(target=ours.wait).start()
        end(drivers_of(tmp_path / "ours"))
        assert gone(ours.pid) and theirs.poll() is None
        theirs.kill()


def test_two_that_start_services_wait_for_each_other(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with Services(tmp_path).lock():
            order.append("second")

    with Services(tmp_path).lock():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


@pytest.mark.parametrize("pid", [0, 999_999_999])
def test_no_process_has_no_start_time(pid: int) -> None:
    assert start_time(pid) is None
