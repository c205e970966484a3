"""An installation on the servers of a cluster: PostgreSQL, S3 behind faults, passwords, and secrets to look for."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
    command_lines: set[bytes]
    """Every command line that was seen while a road ran."""
    road: Mapping[str, Any]
    """The run of the smoke recipe on disk, as Prefect knows it."""


@contextmanager
def watched(seen: set[bytes]) -> Iterator[None]:
    """Collect meanwhile the command lines of all processes of this machine."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            seen.update(command_lines())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
