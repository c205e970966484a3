"""An installation on the servers of a cluster: PostgreSQL, S3 behind faults, passwords, and secrets to look for."""

import base64
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from installation import Installation
from postgres import Postgres
from s3_fault_proxy import Faults


@dataclass
class Equipped:
    """What the tests of this folder share."""

    here: Installation
    """With artifacts on disk."""
    on_s3: Installation
    """The same services, with artifacts on S3 behind the faults."""
    faults: Faults
    database: Postgres
    canaries: Mapping[str, str]
    command_lines: set[bytes] = field(default_factory=set)
    """Every command line that was seen while a road ran."""

    def follow(self, run: "subprocess.Popen[str]", seconds: float = 1500) -> str:
        """Wait for a road and look meanwhile at the command lines of all processes; return what it printed."""
        said: list[str] = []
        assert run.stdout is not None
        reader = threading.Thread(target=lambda: said.extend(run.stdout or ()), daemon=True)
        reader.start()
        stop = time.monotonic() + seconds
        while run.poll() is None and time.monotonic() < stop:
            self.command_lines |= set(command_lines())
            time.sleep(0.5)
        reader.join(timeout=10)
        assert run.returncode == 0, "".join(said)[-6000:]
        return "".join(said)


def command_lines() -> Iterator[bytes]:
    """Return the command lines of all processes of this machine."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield (entry / "cmdline").read_bytes()
        except OSError:
            continue


def made_up(name: str) -> str:
    """Return a secret that occurs nowhere else."""
    return f"canary-{name}-{secrets.token_hex(16)}"


def spellings(secret: str) -> list[bytes]:
    """Return a secret as it is, and as it stands in base64 at each of the three offsets."""
    found = [secret.encode()]
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + secret.encode())
        found.append(whole[4 if shift else 0 : -4])  # the ends also hold bits of what stands beside
    return found
