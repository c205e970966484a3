"""Start and stop our own processes, and never anybody else's.

A process is remembered with its start time, so a number that the system gave to another
process since is not mistaken for ours.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel


class Service(BaseModel):
    """One running process group of ours."""

    name: str
    pid: int
    started: str


def start_time(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def alive(service: Service) -> bool:
    """Say whether exactly this process still runs."""
    return start_time(service.pid) == service.started


class Services:
    """The processes of one installation, remembered in `services.json`."""

    def __init__(self, home: Path) -> None:
        """Read what is remembered."""
        self.home = home
        self._file = home / "services.json"

    def all(self) -> list[Service]:
        """Return the services that are alive."""
        if not self._file.exists():
            return []
        return [s for s in (Service.model_validate(each) for each in json.loads(self._file.read_text())) if alive(s)]

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
                env={**os.environ, **environment},
                start_new_session=True,
            )
        service = Service(name=name, pid=process.pid, started=start_time(process.pid) or "")
        self._write([*[s for s in self.all() if s.name != name], service])
        return service

    def stop(self, name: str, grace_seconds: float = 15) -> bool:
        """End a service and its process group; return whether it was running."""
        service = self.find(name)
        if service is None:
            return False
        self._signal(service, signal.SIGTERM)
        stop = time.monotonic() + grace_seconds
        while alive(service) and time.monotonic() < stop:
            _reap(service.pid)
            time.sleep(0.1)
        # Children of the group may outlive their leader; the group is still ours to end.
        self._signal(service, signal.SIGKILL)
        _reap(service.pid)
        self._write([s for s in self.all() if s.name != name])
        return True

    @staticmethod
    def _signal(service: Service, number: signal.Signals) -> None:
        try:
            os.killpg(service.pid, number)
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
