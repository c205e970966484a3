"""Shared fixtures: stores on disk and on a local S3 server, and one local Ray for the whole run."""

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, free_port

from filters.bits import BITS
from infra.cluster import Cluster, InlineCluster, RayCluster
from infra.storage import Store

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that share the tests have a terminal of 80 columns, whose tables break the words that tests look for.
os.environ["COLUMNS"] = "200"
if os.environ.get("INTERNVL_TEST_DEVICE", "cpu") == "cpu":
    # Recorded curves are those of a CPU, and two processes would want two GPUs; `make test-gpu` shows the GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

QUIET_BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the whole road first, where tests are shared by processes: it is the longest."""
    items.sort(key=lambda item: "installation" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give tests that share a fixture which is dear to one process: a file, the services, Ray.

    Groups by mark (`--dist loadgroup`) are lost with this pytest, so the name of a test has to tell.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if path.startswith("tests/end_to_end/") and "filter_page" not in path:
                return "services"
            return "ray" if "[ray" in nodeid else path

    return Together(config, log)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store on disk."""
    return Store(str(tmp_path / "store"))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Yield a port of this machine that refuses every connection: taken, so that nobody else listens on it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start a local S3 server; yield its address, with credentials in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield f"http://{host}:{port}"
    patch.undo()
    server.stop()


@pytest.fixture
def s3_store(s3_endpoint: str) -> Store:
    """Return an empty store in a new bucket of the local S3 server."""
    import boto3

    bucket = f"bucket-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return Store(f"s3://{bucket}/prefix")


@pytest.fixture(params=["disk", "s3"])
def any_store(request: pytest.FixtureRequest) -> Store:
    """Return an empty store, once on disk and once on S3."""
    found: Store = request.getfixturevalue("store" if request.param == "disk" else "s3_store")
    return found


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Start one small local Ray for all tests that need it; it ends with the run."""
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112 - Ray spells it so
    for attempt in range(3):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                resources={"egress": 1},
                include_dashboard=False,
                object_store_memory=150_000_000,
                configure_logging=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}},
            )
            break
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    yield RayCluster()
    ray.shutdown()


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.ray)])
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return a cluster: this process, and a real Ray."""
    if request.param == "inline":
        return InlineCluster()
    found: RayCluster = request.getfixturevalue("ray_cluster")
    return found


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Start Prefect, Ray, the report server and the tiny web once for all tests that need them."""
    here = Installation(tmp_path_factory.mktemp("installation"), [free_port() for _ in range(5)])
    here.internvl("up", timeout=900)
    yield here
    here.internvl("down")
    left = here.processes()
    assert not left, f"`internvl down` left running: {left}"


@pytest.fixture(autouse=True)
def _own_filters_stay_in_their_test() -> Iterator[None]:
    """Forget the bits that a test's own filters were given: they are held by the process."""
    before = dict(BITS)
    yield
    BITS.clear()
    BITS.update(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser without a window."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET_BROWSER)
        yield browser
        browser.close()
