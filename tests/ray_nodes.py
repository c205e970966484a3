"""A Ray cluster of several nodes on this machine, of our own: ports, folder, token and process groups.

Each node is a `ray start` of its own, as on machines of their own; killing one kills its raylet and all its workers
at once, as when a machine loses power. `ray stop` is never called: it ends every Ray on the machine.
"""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installation import free_port, wait_for

from infra.processes import Services, session_of
from pipelines.launcher import bin_path

HEAD = "head"
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
"""Of the head, and of the nodes in order. Ray would take the machine's outer address for 127.0.0.1."""
TRIES = 3
START_SECONDS = 300.0
NAME = "INTERNVL_TEST_NODE"
"""Variable that tells a worker the name of its node."""


class RayNodes:
    """Nodes by name; the head is the one that others join."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder: it must be short, because Ray's socket paths may not pass 107 bytes."""
        self.folder, self.port = folder, free_port()
        self.services, self._started = Services(folder), list[str]()
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        # Workers get these from their node, the driver from the test.
        self.environment = {
            "RAY_ADDRESS": f"{ADDRESSES[0]}:{self.port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "180",
            "RAY_memory_monitor_refresh_ms": "0",  # what else fills this machine is no reason to end a worker
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def start(self, name: str, cpus: int) -> None:
        """Start a node and wait until it has joined; a busy machine may need several tries.

        Raises:
            TimeoutError: It never came up; the end of its log is in the message.
        """
        self._started.append(name)
        for attempt in range(TRIES):
            begun = self._log(name).stat().st_size if self._log(name).exists() else 0
            self.services.start(name, self._command(name, cpus), {**self.environment, NAME: name})
            wait_for(f"{name} to start or end", lambda at=begun: self._told(name, at), START_SECONDS)
            if self._up(name, begun):
                return
            self.services.stop(name)
            time.sleep(2 * (attempt + 1))
        raise TimeoutError(f"{name} did not start in {TRIES} tries:\n{self._log(name).read_text()[-3000:]}")

    def kill(self, name: str) -> None:
        """End a node and everything on it without a warning."""
        node = self.services.find(name)
        assert node is not None, f"{name} does not run"
        for pid in session_of(node):
            with_signal(pid, signal.SIGKILL)
        wait_for(f"{name} to be gone", lambda: not session_of(node), 60)

    def stop(self) -> None:
        """End all nodes."""
        self.services.sweep()
        self.services.stop_all(tuple(service.name for service in self.services.all()))

    def _command(self, name: str, cpus: int) -> list[str]:
        joins = (
            ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}",
             f"--ray-client-server-port={free_port()}"]
            if name == HEAD
            else [f"--address={ADDRESSES[0]}:{self.port}"]
        )  # fmt: skip
        return [
            bin_path("ray"), "start", *joins, "--block", "--disable-usage-stats",
            f"--node-ip-address={ADDRESSES[self._started.index(name)]}",
            f"--num-cpus={cpus}", f"--object-store-memory={100 * 1024 * 1024}",
            f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0",
        ]  # fmt: skip

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _up(self, name: str, begun: int) -> bool:
        return b"Ray runtime started" in self._log(name).read_bytes()[begun:]

    def _told(self, name: str, begun: int) -> bool:
        return self._up(name, begun) or self.services.find(name) is None


def with_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextmanager
def ray_nodes(names: tuple[str, ...]) -> Iterator[RayNodes]:
    """Start a head that takes no work, and nodes that do; end all of them, and what they left on disk."""
    folder = Path(tempfile.mkdtemp(prefix="ivn-", dir="/tmp"))
    nodes = RayNodes(folder)
    try:
        for name in (HEAD, *names):
            nodes.start(name, 0 if name == HEAD else 1)
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
