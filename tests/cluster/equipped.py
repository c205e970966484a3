"""An installation on the servers of a cluster: PostgreSQL, S3 behind faults, passwords, and secrets to look for."""

import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from canaries import command_lines
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
    homes: Mapping[str, str]
    """The files of those secrets that are kept."""
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
