"""Everything in this folder runs on several nodes or on servers of their own: `make test-cluster`."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from canaries import made_up
from equipped import Equipped, watched
from installation import Installation, free_port
from pool import run_in_a_pool
from postgres import Postgres, installed, postgres
from roads import ROAD_SECONDS
from s3_fault_proxy import Fault, Faults, s3_fault_proxy

from infra.storage import Store

HERE = Path(__file__).parent
LONGEST_SECONDS = 2700
"""For one test with what it is the first to need: ten minutes on two idle cores, more where others fill them."""
FAULTS = (("503", 0.02), ("reset", 0.02), ("lost", 0.02), ("cut", 0.01))
OURS = ("INTERNVL_REPORT_TOKEN", "INTERNVL_WEBHOOK", "INTERNVL_WEBHOOK_SECRET", "PREFECT_API_AUTH_STRING")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook is given those of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    """Serve an empty PostgreSQL."""
    if (tools := installed()) is None:
        pytest.skip("no PostgreSQL on this machine; `apt-get install postgresql` brings one, and a user to run it as")
    with postgres(tools) as server:
        yield server


def own_secrets() -> dict[str, str]:
    """Return what a person's environment may hold and nobody else may learn."""
    return {name: made_up() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", *OURS)}


def variables(own: Mapping[str, str], database: Postgres, s3: str) -> dict[str, str]:
    """Return the environment of an installation on the servers of a cluster."""
    hook = f"127.0.0.1:{free_port()}"
    return {
        **own,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url,
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{own['PREFECT_API_AUTH_STRING']}",
        "PREFECT_API_AUTH_STRING": f"admin:{own['PREFECT_API_AUTH_STRING']}",
        "AWS_ENDPOINT_URL": s3,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Nobody listens there: what is said about that must not hold the address either.
        "INTERNVL_WEBHOOK": f"http://{hook}/{own['INTERNVL_WEBHOOK']}",
        "INTERNVL_WEBHOOK_ALLOW": hook,
        "RAY_memory_monitor_refresh_ms": "0",  # what else fills this machine is no reason to end a worker
    }


@pytest.fixture(scope="session")
def equipped(tmp_path_factory: pytest.TempPathFactory, database: Postgres, s3_endpoint: str) -> Iterator[Equipped]:
    """Start the services on PostgreSQL with passwords and secrets; run the smoke recipe once, on disk, in a pool."""
    import boto3

    bucket = f"cluster-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    faults, own, seen = Faults(5, *(Fault(kind, share) for kind, share in FAULTS)), own_secrets(), set[bytes]()
    with s3_fault_proxy(s3_endpoint, faults) as proxy, watched(seen):
        told = variables(own, database, proxy)
        here = Installation(tmp_path_factory.mktemp("equipped"), [free_port() for _ in range(5)], told)
        try:
            here.internvl("up", timeout=900)
            token = (here.home / "ray" / "token").read_text().strip()
            root = f"s3://{bucket}/road"
            canaries = {**own, "postgres": database.password, "ray": token}
            road = run_in_a_pool(here, "internvl", {"recipe": "smoke"}, ROAD_SECONDS)
            yield Equipped(here, here.on(root, Store(root)), faults, database, canaries, seen, road)
        finally:
            here.internvl("down")
    left = here.processes()
    assert not left, f"`internvl down` left running: {left}"


@pytest.fixture(scope="session")
def data_on_s3(equipped: Equipped) -> Installation:
    """Run the flow from url lists to shards with its artifacts on an S3 that fails now and then."""
    equipped.on_s3.internvl("run", "data", "--recipe", "smoke", timeout=ROAD_SECONDS)
    return equipped.on_s3
