"""Start and stop our own processes, and never anybody else's.

A process is remembered with its start time, so a number that the system gave to another
process since is not mistaken for ours. Every service leads a session of its own, which its
children stay in, so what a dead service left behind can be found and ended too.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

SECRETS = {
    "INTERNVL_REPORT_TOKEN": ("reports",),
    "INTERNVL_WEBHOOK": ("deployments",),
    "INTERNVL_WEBHOOK_ALLOW": ("deployments",),
    "INTERNVL_WEBHOOK_SECRET": ("deployments",),
    "PREFECT_API_AUTH_STRING": ("prefect", "deployments"),
    "PREFECT_API_KEY": ("deployments",),
    "PREFECT_SERVER_API_AUTH_STRING": ("prefect",),
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": ("prefect",),
    "PREFECT_SERVER_DATABASE_PASSWORD": ("prefect",),
}
"""Variables that only these services inherit: what runs in a Ray job, or answers pages, need not know them."""


class Service(BaseModel):
    """One service of ours: the leader of its session."""

    name: str
    pid: int
    started: str


def _stat(pid: int | str) -> list[str] | None:
    """Return the kernel's fields about a process after its name; None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields


def start_time(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None where it is gone or a zombie."""
    fields = _stat(pid)
    return fields[19] if fields else None


def session_of(service: Service) -> list[int]:
    """Return the living processes of a service's session, its leader first.

    The kernel gives a session's number to no new process while a member lives. A leader of
    that number with another start time is somebody else's, and so is its session.
    """
    leader = start_time(service.pid)
    if leader is not None and leader != service.started:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry.name)) and fields[3] == str(service.pid):
            found.append(int(entry.name))
    return sorted(found, key=lambda pid: (pid != service.pid, pid))


def drivers_of(home: Path, command: str = "stages.run") -> list[int]:
    """Return processes of an installation's Ray jobs, which lead sessions of their own."""
    mark, found = f"INTERNVL_HOME={home}".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ours = command.encode() in words and mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if ours and _stat(entry.name):
            found.append(int(entry.name))
    return found


def end(pids: Sequence[int], grace_seconds: float = 3) -> None:
    """Ask processes to end, and after a while make them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            _signal(pid, number)
        stop = time.monotonic() + grace_seconds
        while any(start_time(pid) for pid in pids) and time.monotonic() < stop:
            time.sleep(0.1)


def inherited(name: str) -> dict[str, str]:
    """Return what a service gets of this process's environment: all but secrets of the others."""
    return {key: value for key, value in os.environ.items() if name in SECRETS.get(key, (name,))}


def alive(service: Service) -> bool:
    """Say whether exactly this process still runs."""
    return start_time(service.pid) == service.started


class Services:
    """The processes of one installation, remembered in `services.json`."""

    def __init__(self, home: Path) -> None:
        """Read what is remembered."""
        self.home = home
        self._file = home / "services.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the installation: of two that start or stop services at once, one waits for the other."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "services.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _remembered(self) -> list[Service]:
        if not self._file.exists():
            return []
        return [Service.model_validate(each) for each in json.loads(self._file.read_text())]

    def all(self) -> list[Service]:
        """Return the services that are alive."""
        return [service for service in self._remembered() if alive(service)]

    def sweep(self) -> list[str]:
        """End what services that died left running; return their names."""
        left = {s.name: session_of(s) for s in self._remembered() if not alive(s)}
        end([pid for pids in left.values() for pid in pids])
        if left:
            self._write(self.all())
        return [name for name, pids in left.items() if pids]

    def find(self, name: str) -> Service | None:
        """Return a living service by name."""
        return next((service for service in self.all() if service.name == name), None)

    def _write(self, services: Sequence[Service]) -> None:
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps([service.model_dump() for service in services], indent=1))
        os.replace(temporary, self._file)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Service:
        """Start a command in a process group of its own, its output in `logs/<name>.log`."""
        logs = self.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited(name), **environment},
                start_new_session=True,
            )
        service = Service(name=name, pid=process.pid, started=start_time(process.pid) or "")
        self._write([*[s for s in self.all() if s.name != name], service])
        return service

    def stop_all(self, names: Sequence[str]) -> list[str]:
        """End services together, none waiting for another; return those that were running."""
        running = [service for service in self._remembered() if service.name in names and session_of(service)]
        for service in running:
            _signal(-service.pid, signal.SIGTERM)
        for service in running:
            self.stop(service.name)
        self._write([service for service in self.all() if service not in running])
        return [service.name for service in running]

    def stop(self, name: str, grace_seconds: float = 4) -> bool:
        """End a service and its session; return whether it was running.

        Ray would take half a minute to end by itself. None of our services loses anything when it is
        made to end: what counts is in the store and in Prefect's database.
        """
        service = next((s for s in self._remembered() if s.name == name), None)
        if service is None or not session_of(service):
            return False
        _signal(-service.pid, signal.SIGTERM)
        stop = time.monotonic() + grace_seconds
        while alive(service) and time.monotonic() < stop:
            _reap(service.pid)
            time.sleep(0.1)
        # Children may outlive their leader; its session is still ours to end.
        end(session_of(service))
        _reap(service.pid)
        self._write([s for s in self.all() if s.name != name])
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, or with a negative number to its group."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log, empty where there is none."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
