"""The road on several Ray nodes, and on an S3 that fails, makes the bytes of one process on a disk."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import wait_for
from ray_nodes import RayNodes, ray_nodes
from roads import Road, begin, digests, drawn_web
from s3_fault_proxy import Fault, Faults, s3_fault_proxy


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the drawn web for all roads of this file: its address is in what they make."""
    with drawn_web(tmp_path_factory.mktemp("web")) as address:
        yield address


@pytest.fixture(scope="module")
def undisturbed(web: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what one process without Ray makes of the whole road, on a disk."""
    home = tmp_path_factory.mktemp("alone")
    found = digests(begin("whole", str(home / "store"), home, web, {}))
    assert {"pool/laion_en@smoke", "shards/clean@smoke", "checkpoints/instruct@smoke"} <= set(found)
    return found


def data_half(whole: dict[str, str]) -> dict[str, str]:
    kinds = ("listing/", "pool/", "signals/", "verdicts/", "shards/", "checkpoints/filtering_network@")
    return {name: digest for name, digest in whole.items() if name.startswith(kinds)}


def test_two_nodes_make_the_bytes_of_one_process(web: str, undisturbed: dict[str, str], tmp_path: Path) -> None:
    with ray_nodes(("second",)) as nodes:
        run = begin("data", str(tmp_path / "store"), tmp_path, web, nodes.environment, "2")
        assert digests(run) == data_half(undisturbed)


def killed_holder(nodes: RayNodes, mark: Path, run: Road) -> str:
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
        run = begin("data", str(tmp_path / "store"), tmp_path, web, nodes.environment, "3", str(tmp_path))
        assert killed_holder(nodes, tmp_path, run) in ("second", "third")
        assert digests(run) == data_half(undisturbed)


def test_the_whole_road_on_a_failing_s3_makes_the_bytes_of_the_one_on_a_disk(
    web: str, undisturbed: dict[str, str], s3_endpoint: str, tmp_path: Path
) -> None:
    import boto3

    bucket = f"road-{secrets.token_hex(4)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    kinds = (("503", 0.02), ("reset", 0.02), ("lost", 0.02), ("cut", 0.01))
    faults = Faults(5, *(Fault(kind, share) for kind, share in kinds))
    with s3_fault_proxy(s3_endpoint, faults) as proxy:
        run = begin("whole", f"s3://{bucket}/road", tmp_path, web, {"AWS_ENDPOINT_URL": proxy})
        assert digests(run) == undisturbed
    assert all(faults.played[kind] for kind, _ in kinds), faults.played
