"""Start and stop the services of one machine: Prefect, Ray, the deployments, reports, the tiny web.

Everything listens on loopback, asks nobody outside, and lives under one state folder. `down` ends
the processes that `up` started and no others; `ray stop` is never called, because it ends every
Ray on the machine.
"""

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.kept_file import kept
from infra.processes import Services, drivers_of, end, tail
from infra.settings import Settings, quiet_environment
from infra.storage import Store
from pipelines.health import answers, ask, basic, busy, free_port, has_node
from pipelines.prefect_door import client_variables, make_password, ours, password_of, refusal, server_variables

WAIT_SECONDS = 240.0
RAY_TRIES = 3


class LaunchError(RuntimeError):
    """A service did not come up; the message says which, why, and the next move."""


def bin_path(name: str) -> str:
    """Return a command of this environment."""
    return str(Path(sys.executable).parent / name)


def _token(path: Path) -> None:
    """Make a secret that only this user can read, unless it stands.

    Raises:
        StorageError: An empty one stands.
    """
    kept(path, lambda: secrets.token_hex(32))


def ray_folder(here: Settings) -> Path:
    """Return Ray's own folder: short, because its socket paths may not pass 107 bytes."""
    return Path("/tmp") / f"internvl-ray-{hashlib.sha256(str(here.home).encode()).hexdigest()[:8]}"


def _commands(here: Settings) -> dict[str, tuple[list[str], Callable[[], bool]]]:
    """Return command and health check of each service, in the order of starting."""
    token = {"Authorization": f"Bearer {here.ray_token_path.read_text().strip()}"}
    ray = [
        bin_path("ray"), "start", "--head", "--block", "--disable-usage-stats",
        f"--node-ip-address={here.host}", f"--port={here.ray_port}",
        "--include-dashboard=true", f"--dashboard-host={here.host}", f"--dashboard-port={here.ray_dashboard_port}",
        f"--temp-dir={ray_folder(here)}", f"--object-store-memory={300 * 1024 * 1024}",
        # Ports that Ray would take at fixed numbers or from a fixed range: two clusters on one machine
        # would fight for them, so these are chosen free and the workers' are left to the system.
        f"--ray-client-server-port={free_port(here.host)}", f"--dashboard-agent-listen-port={free_port(here.host)}",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    return {
        "prefect": (
            [bin_path("prefect"), "server", "start", "--host", here.host, "--port", str(here.prefect_port)],
            lambda: answers(f"{here.prefect_api_url}/health"),
        ),
        "ray": (
            ray,
            lambda: has_node(ask(f"{here.ray_jobs_address}/api/v0/nodes", token)),
        ),
        "reports": (
            [sys.executable, "-m", "pipelines.report_server", "--host", here.host, "--port", str(here.report_port)],
            lambda: answers(f"{here.report_url}/healthz"),
        ),
        "web": (
            [sys.executable, "-m", "stages.sources.web_server", "--host", here.host, "--port", str(here.web_port)],
            lambda: answers(f"{here.web_url}/healthz"),
        ),
    }


PORTS = {
    "prefect": ("prefect_port",),
    "ray": ("ray_dashboard_port", "ray_port"),
    "reports": ("report_port",),
    "web": ("web_port",),
}
"""Settings that name the ports of each service."""


def up(here: Settings, say: Callable[[str], None] = print) -> None:
    """Start what does not run yet and wait until all of it answers.

    Raises:
        LaunchError: A port belongs to somebody else, or a service did not answer in time.
        StorageError: The store cannot be written, or a token's file is empty.
    """
    try:
        here.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"the state folder {here.home} cannot be made: {error.strerror}; set INTERNVL_HOME to another"
        ) from error
    Store(here.store_root).check()
    _token(here.ray_token_path)
    _token(here.report_token_path)
    with Services(here.home).lock():
        _up(here, say)


def _up(here: Settings, say: Callable[[str], None]) -> None:
    services = Services(here.home)
    outside = {
        "prefect": not ours(here),
        "ray": bool(os.environ.get("INTERNVL_RAY_JOBS")),
        "reports": bool(os.environ.get("INTERNVL_REPORT_URL")),
        "web": bool(os.environ.get("INTERNVL_WEB_URL")),
    }
    if swept := services.sweep():
        say(f"ended what {', '.join(swept)} had left running")
    if not services.find("prefect") and not services.find("deployments"):
        make_password(here)
    elif ours(here) and not password_of(here):
        # Put on now, it would lock out what runs: an earlier release started that without one.
        say("Prefect asks nobody for a password yet; it will from its next start: internvl down, then internvl up")
    commands = {name: each for name, each in _commands(here).items() if not outside.get(name)}
    started = [name for name in commands if not services.find(name)]
    _refuse_taken(here, started)
    for name in started:
        services.start(name, commands[name][0], _variables(here, name))
    for name, (_, healthy) in commands.items():
        _wait(here, services, name, healthy, say, tries=RAY_TRIES if name == "ray" else 1)
    if why := refusal(here):
        raise LaunchError(why)
    if not services.find("deployments"):
        services.start("deployments", [sys.executable, "-m", "pipelines.deploy"], _variables(here, "deployments"))
    if started:
        say(f"started {', '.join(sorted(started))}")


def _refuse_taken(here: Settings, names: Sequence[str]) -> None:
    """Raise a LaunchError about all ports at once that others listen on, with ports that are free instead."""
    taken = [
        (name, setting, getattr(here, setting))
        for name in names
        for setting in PORTS[name]
        if busy(here.host, getattr(here, setting))
    ]
    if not taken:
        return
    wanted = ", ".join(f"port {port}, wanted for {name}" for name, _, port in taken)
    used, instead = {getattr(here, setting) for each in PORTS.values() for setting in each}, []
    for _, setting, port in taken:
        # A multiple of 100 above is easy to remember.
        other = next((n for n in range(port + 100, 65536, 100) if n not in used and not busy(here.host, n)), 0)
        used.add(other)
        instead.append(f"INTERNVL_{setting.upper()}={other or free_port(here.host)}")
    several = len(taken) > 1
    raise LaunchError(
        f"{wanted}, {'are' if several else 'is'} taken by another program, or by another installation; "
        f"free {'them' if several else 'it'}, or choose {'other ports' if several else 'another port'}: "
        f"export {' '.join(instead)}"
    )


def _variables(here: Settings, name: str) -> dict[str, str]:
    """Return what a service is told; Prefect's password goes to those two alone that need it."""
    told = {"prefect": server_variables, "deployments": client_variables}
    return told.get(name, quiet_environment)(here)


def wait_for_forms(here: Settings) -> None:
    """Wait until the flows can be started from the UI.

    Raises:
        LaunchError: They were not registered in time.
    """
    services, stop = Services(here.home), time.monotonic() + WAIT_SECONDS
    access = basic(password_of(here))
    while services.find("deployments") and time.monotonic() < stop:
        if answers(f"{here.prefect_api_url}/deployments/name/rerun/rerun", access):
            return
        time.sleep(0.5)
    log = here.home / "logs" / "deployments.log"
    raise LaunchError(f"the flows were not registered with {here.prefect_api_url}; the log is {log}:\n{tail(log)}")


def _wait(
    here: Settings, services: Services, name: str, healthy: Callable[[], bool], say: Callable[[str], None], tries: int
) -> None:
    log = here.home / "logs" / f"{name}.log"
    for attempt in range(tries):
        stop, told = time.monotonic() + WAIT_SECONDS, time.monotonic() + 5
        while time.monotonic() < stop and services.find(name):
            if healthy():
                return
            if time.monotonic() > told:
                say(f"waiting for {name} ...")
                told = time.monotonic() + 15
            time.sleep(0.5)
        services.stop(name)
        if attempt + 1 < tries:
            say(f"{name} did not start (a busy machine does that); trying again")
            shutil.rmtree(ray_folder(here), ignore_errors=True)
            time.sleep(2 * (attempt + 1))
            services.start(name, _commands(here)[name][0], _variables(here, name))
    raise LaunchError(f"{name} did not come up; its log is {log}:\n{tail(log)}")


def down(here: Settings, say: Callable[[str], None] = print) -> None:
    """Stop our services, in the reverse order of starting."""
    if not here.home.is_dir():
        say("nothing of ours was running")
        return
    services = Services(here.home)
    with services.lock():
        stopped = services.stop_all(("deployments", "web", "reports", "ray", "prefect"))
        services.sweep()
        end(drivers_of(here.home))
        shutil.rmtree(ray_folder(here), ignore_errors=True)
    say(f"stopped {', '.join(stopped)}" if stopped else "nothing of ours was running")
