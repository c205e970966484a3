"""Everything in this folder runs on several nodes or on servers of their own: `make test-cluster`."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from canaries import made_up
from equipped import Equipped
from installation import Installation, free_port
from postgres import Postgres, installed, postgres
from s3_fault_proxy import Fault, Faults, s3_fault_proxy

from infra.storage import Store

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook is given those of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    """Serve an empty PostgreSQL."""
    if (tools := installed()) is None:
        pytest.skip("no PostgreSQL on this machine; `apt-get install postgresql` brings one, and a user to run it as")
    with postgres(tools) as server:
        yield server


@pytest.fixture(scope="session")
def equipped(tmp_path_factory: pytest.TempPathFactory, database: Postgres, s3_endpoint: str) -> Iterator[Equipped]:
    """Start the services on PostgreSQL with passwords and secrets; run the smoke recipe once on disk."""
    import boto3

    bucket, password = f"cluster-{secrets.token_hex(4)}", made_up("prefect")
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    faults = Faults(
        5, *(Fault(kind, share) for kind, share in (("503", 0.02), ("reset", 0.02), ("lost", 0.02), ("cut", 0.01)))
    )
    secret, key = made_up("aws-secret"), made_up("aws-key")
    webhook, signing = made_up("webhook"), made_up("webhook-secret")
    with s3_fault_proxy(s3_endpoint, faults) as proxy:
        variables = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url,
            "PREFECT_SERVER_API_AUTH_STRING": f"admin:{password}",
            "PREFECT_API_AUTH_STRING": f"admin:{password}",
            "INTERNVL_REPORT_TOKEN": secrets.token_hex(16),
            "INTERNVL_WEBHOOK": f"http://127.0.0.1:9/{webhook}",
            "INTERNVL_WEBHOOK_SECRET": signing,
            "AWS_ENDPOINT_URL": proxy,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "RAY_memory_monitor_refresh_ms": "0",  # what else fills this machine is no reason to end a worker
        }
        here = Installation(tmp_path_factory.mktemp("equipped"), [free_port() for _ in range(5)], variables)
        try:
            here.internvl("up", timeout=900)
            canaries = {
                "aws-key": key,
                "aws-secret": secret,
                "prefect": password,
                "postgres": database.password,
                "webhook": webhook,
                "webhook-secret": signing,
                "reports": variables["INTERNVL_REPORT_TOKEN"],
                "ray": (here.home / "ray" / "token").read_text().strip(),
            }
            homes = {"ray": str(here.home / "ray" / "token")}
            root = f"s3://{bucket}/road"
            found = Equipped(here, here.on(root, Store(root)), faults, database, canaries, homes)
            found.follow(here.begin("run", "internvl", "--recipe", "smoke"))
            yield found
        finally:
            here.internvl("down")
    left = here.processes()
    assert not left, f"`internvl down` left running: {left}"
