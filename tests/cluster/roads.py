"""Roads in processes of their own, and the web that they read."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from installation import free_port, wait_for

from infra.processes import Services
from pipelines.health import answers

SCRIPT = Path(__file__).with_name("road_on_nodes.py")
Road = subprocess.Popen[str]
ROAD_SECONDS = 3600
"""Most that a road may take; it takes minutes on a quiet machine."""


@contextmanager
def drawn_web(folder: Path) -> Iterator[str]:
    """Serve the smoke recipe's web meanwhile; yield its address."""
    services, port = Services(folder), free_port()
    command = [sys.executable, "-m", "stages.sources.web_server", "--host", "127.0.0.1", "--port", str(port)]
    services.start("web", command, {})
    try:
        wait_for("the web", lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        yield f"http://127.0.0.1:{port}"
    finally:
        services.stop("web")


def begin(half: str, store: str, home: Path, web: str, environment: Mapping[str, str], *nodes: str) -> Road:
    """Start a road; `nodes` are how many Ray nodes there are, and the folder that a part is held through."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), half, store, web, *(nodes or ("0",))],
        env={**os.environ, "INTERNVL_HOME": str(home), "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def digests(run: Road) -> dict[str, str]:
    """Wait for a road; return the digest of each manifest, which covers the hashes of all its files."""
    try:
        text, _ = run.communicate(timeout=ROAD_SECONDS)
    finally:
        run.kill()
    assert run.returncode == 0, text[-4000:]
    words = [line.split() for line in text.splitlines()]
    return {
        each[0]: each[1] for each in words if len(each) == 2 and each[0].endswith("@smoke") and len(each[1]) == 64
    }
