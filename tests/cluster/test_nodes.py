"""The data road on several Ray nodes makes the bytes of one process, and loses nothing with a node."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from installation import free_port, wait_for
from ray_nodes import RayNodes, ray_nodes

from infra.processes import Services
from pipelines.launcher import answers

pytestmark = pytest.mark.timeout(1500)
SCRIPT = Path(__file__).with_name("road_on_nodes.py")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the drawn web; yield its address."""
    services, port = Services(tmp_path_factory.mktemp("web")), free_port()
    command = [sys.executable, "-m", "stages.sources.web_server", "--host", "127.0.0.1", "--port", str(port)]
    services.start("web", command, {})
    try:
        wait_for("the web", lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        yield f"http://127.0.0.1:{port}"
    finally:
        services.stop("web")


def begin(
    store: Path, web: str, nodes: int, environment: Mapping[str, str], mark: str = ""
) -> "subprocess.Popen[str]":
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, str(SCRIPT), str(store), web, str(nodes), *([mark] if mark else [])]
    return subprocess.Popen(
        command,
        env={**os.environ, "INTERNVL_HOME": str(store.parent / "home"), "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def digests(run: "subprocess.Popen[str]") -> dict[str, str]:
    """Wait for a road; return the digest of each manifest, which covers the hashes of all its files."""
    try:
        text, _ = run.communicate(timeout=1200)
    finally:
        run.kill()
    assert run.returncode == 0, text[-4000:]
    words = [line.split() for line in text.splitlines()]
    return {
        each[0]: each[1] for each in words if len(each) == 2 and each[0].endswith("@smoke") and len(each[1]) == 64
    }


@pytest.fixture(scope="module")
def undisturbed(web: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what one process without Ray makes."""
    found = digests(begin(tmp_path_factory.mktemp("alone") / "store", web, 0, {}))
    assert {"listing/cc3m@smoke", "pool/laion_en@smoke", "signals/cc3m@smoke", "shards/clean@smoke"} <= set(found)
    return found


def test_two_nodes_make_the_bytes_of_one_process(web: str, undisturbed: dict[str, str], tmp_path: Path) -> None:
    with ray_nodes(("second",)) as nodes:
        assert digests(begin(tmp_path / "store", web, 2, nodes.environment)) == undisturbed


def killed_holder(nodes: RayNodes, mark: Path, run: "subprocess.Popen[str]") -> str:
    """Kill the node on which a work waits; return its name."""
    wait_for("a part that is held", lambda: (mark / "held").exists() or run.poll() is not None, 900)
    assert run.poll() is None, "the road ended before a part was held"
    name = wait_for("its node's name", lambda: (mark / "held").read_text(), 10)
    nodes.kill(name)
    (mark / "go").touch()
    return str(name)


def test_a_node_that_holds_an_unfinished_part_is_killed(
    web: str, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    with ray_nodes(("second", "third")) as nodes:
        run = begin(tmp_path / "store", web, 3, nodes.environment, str(tmp_path))
        assert killed_holder(nodes, tmp_path, run) in ("second", "third")
        assert digests(run) == undisturbed
