"""A training whose worker is killed on another node than its driver's ends with the uninterrupted run's bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from ray_nodes import ray_nodes
from test_ray_gang import GONE_ON_FROM, steps_of

from infra.storage import Store
from stages.manifest import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
SCRIPT = Path(__file__).with_name("gang_on_nodes.py")


def test_a_worker_killed_on_another_node_changes_nothing(
    untouched: dict[int, dict[str, bytes]], tmp_path: Path
) -> None:
    with ray_nodes(("second", "third")) as nodes:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path)],
            env={**os.environ, "INTERNVL_HOME": str(tmp_path), **nodes.environment},
            capture_output=True,
            text=True,
            timeout=1200,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (tmp_path / "node").read_text() in ("second", "third")
    store = Store(str(tmp_path))
    found = toy_run.result(store, load(store, toy_run.REF), tmp_path / "files")
    assert found == {name: data for name, data in untouched[2].items() if not name.startswith("losses-")}
    numbers = [step for step, _ in steps_of(tmp_path, 1)]
    assert numbers[:7] == list(range(7)) and numbers[7] in GONE_ON_FROM, "it did not go on from a state"
