"""An installation of its own for tests: state folder, ports, services, and the real command line."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil

from infra.processes import Service as ServiceRecord
from infra.processes import drivers_of, session_of
from infra.storage import Store
from pipelines.health import basic
from stages.manifest import Manifest, load
from stages.ref import Ref

PORTS = ("PREFECT_PORT", "RAY_DASHBOARD_PORT", "RAY_PORT", "REPORT_PORT", "WEB_PORT")


def wait_for(what: str, met: Callable[[], Any], seconds: float = 300) -> Any:
    """Return the first true answer.

    Raises:
        TimeoutError: There was none in time.
    """
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if answer := met():
            return answer
        time.sleep(0.3)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """Services of our own; everything goes through processes, as a person's commands do."""

    def __init__(self, home: Path, ports: list[int], variables: Mapping[str, str] | None = None) -> None:
        """Keep what each command will be told; `variables` are a person's own, such as secrets."""
        self.home = home
        self.ports = dict(zip(PORTS, ports, strict=True))
        self.store = Store(str(home / "store"))
        self.outer: set[tuple[str, str]] = set()
        self.command_lines: set[bytes] = set()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PREFECT_", "INTERNVL_", "AWS_"))}
        kept.pop("CI", None)
        self.environment = {
            **kept,
            "INTERNVL_HOME": str(home),
            **{f"INTERNVL_{name}": str(port) for name, port in self.ports.items()},
            "COLUMNS": "200",
            **(variables or {}),
        }

    def on(self, store_root: str, store: Store) -> "Installation":
        """Return the same services with artifacts elsewhere, where this process reads them from `store`."""
        other = copy.copy(self)
        other.store, other.environment = store, {**self.environment, "INTERNVL_STORE": store_root}
        return other

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.cli", *words]

    def internvl(self, *words: str, code: int = 0, timeout: float = 600) -> str:
        """Run a command; return what it printed, and insist on its exit code."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == code, f"internvl {' '.join(words)} -> {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command and do not wait for it."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts the tests in the background hands down an ignored Ctrl-C; a terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def manifest(self, ref: str) -> Manifest:
        return load(self.store, Ref.model_validate(ref))

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.ports['PREFECT_PORT']}"

    @property
    def reports(self) -> str:
        return f"http://127.0.0.1:{self.ports['REPORT_PORT']}"

    @property
    def password(self) -> str:
        """What Prefect asks for: given by the environment, else made by `internvl up`."""
        given = self.environment.get("PREFECT_API_AUTH_STRING")
        return given or (self.home / "prefect" / "password").read_text()

    @property
    def report_link(self) -> str:
        """The address that lets a browser read the reports."""
        return self.internvl("status", "--links").splitlines()[0].split()[-1]

    @property
    def report_token(self) -> str:
        return (self.home / "reports" / "token").read_text()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call Prefect's API as its own pages do, with a token against forged requests."""
        headers = {"Content-Type": "application/json", **basic(self.password)}
        if method != "GET":
            client = "tests"
            headers |= {
                "Prefect-Csrf-Client": client,
                "Prefect-Csrf-Token": self.api("GET", f"/csrf-token?client={client}")["token"],
            }
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.prefect}/api{path}", data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def jobs(self) -> list[dict[str, Any]]:
        """Return Ray's jobs, asked for with the installation's token."""
        address = f"http://127.0.0.1:{self.ports['RAY_DASHBOARD_PORT']}/api/jobs/"
        token = (self.home / "ray" / "token").read_text().strip()
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            found: list[dict[str, Any]] = json.loads(response.read())
        return found

    def job(self, artifact: str, status: str = "RUNNING") -> dict[str, Any] | None:
        """Return a job that makes this artifact and is in this state."""
        named = [job for job in self.jobs() if (job["metadata"] or {}).get("artifact") == artifact]
        return next((job for job in named if job["status"] == status), None)

    def services(self) -> list[ServiceRecord]:
        file = self.home / "services.json"
        return [ServiceRecord.model_validate(each) for each in json.loads(file.read_text())] if file.exists() else []

    def processes(self) -> list[int]:
        """Return all living processes of this installation's services and jobs."""
        return [pid for service in self._ever for pid in session_of(service)] + drivers_of(self.home)

    def open_to_others(self) -> set[tuple[str, str]]:
        """Return (process, address) of each of our processes that listens or talks beyond this machine."""
        found = set()
        for pid in self.processes():
            try:
                process = psutil.Process(pid)
                for each in process.net_connections(kind="inet"):
                    address = each.raddr or each.laddr
                    if not ip_address(address.ip.removeprefix("::ffff:")).is_loopback:
                        found.add((process.name(), f"{address.ip}:{address.port} {each.status}"))
            except psutil.NoSuchProcess:
                continue
        return found

    @property
    def _ever(self) -> list[ServiceRecord]:
        self._seen = {s.pid: s for s in [*getattr(self, "_seen", {}).values(), *self.services()]}
        return list(self._seen.values())

    def workers(self, title: str = "ray::_call") -> list[int]:
        """Return this Ray's worker processes that run something of this title now."""
        (ray,) = (service for service in self.services() if service.name == "ray")
        found = []
        for pid in session_of(ray):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if line.decode(errors="replace").startswith(title):
                found.append(pid)
        return found
