"""Under Ray Train a lost worker is replaced, and a run that lost a machine goes on with what is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from forked_runs import Forks

from infra.storage import Store
from stages.manifest import load

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults]
GONE_ON_FROM = (3, 6)
"""Steps with a state before the fault; the second may still have been on its way into the store."""
SCRIPT = Path(__file__).with_name("ray_gang.py")


def under_ray(what: str, root: Path) -> dict[str, bytes]:
    """Train with a fault, and return the files of the checkpoint."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "INTERNVL_HOME": str(root), "RAY_AUTH_MODE": "disabled"}
    environment["RAY_raylet_start_wait_time_s"] = "180"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, str(root)], env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    store = Store(str(root))
    return toy_run.result(store, load(store, toy_run.REF), root / "files")


def steps_of(root: Path, rank: int) -> list[tuple[int, list[int]]]:
    lines = (root / f"rows-{rank}.txt").read_text().splitlines()
    return [(int(line.split()[0]), list(map(int, line.split()[1:]))) for line in lines]


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_had_happened(
    untouched: dict[int, dict[str, bytes]], tmp_path: Path
) -> None:
    found = under_ray("killed_worker", tmp_path)
    assert found == {name: data for name, data in untouched[2].items() if not name.startswith("losses-")}
    numbers = [step for step, _ in steps_of(tmp_path, 1)]
    assert numbers[:7] == list(range(7)) and numbers[7] in GONE_ON_FROM
    assert numbers[7:] == list(range(numbers[7], toy_run.STEPS))
    losses = (tmp_path / "losses-1.txt").read_bytes().splitlines()
    assert losses[-5:] == untouched[2]["losses-1"].splitlines()[-5:]


def test_a_run_that_lost_a_machine_goes_on_with_one_worker(forks: Forks, tmp_path: Path) -> None:
    straight, lost = tmp_path / "straight", tmp_path / "lost"
    straight.mkdir()
    lost.mkdir()
    assert forks.run(straight, 2, noise=False) == [0, 0], forks.said()
    found = under_ray("lost_machine", lost)
    store = Store(str(straight))
    whole = toy_run.result(store, load(store, toy_run.REF), straight / "files")
    (mine, theirs) = (
        [json.loads(line)["loss"] for line in files["history.jsonl"].splitlines()] for files in (found, whole)
    )
    assert mine == pytest.approx(theirs, rel=1e-5) and len(mine) == toy_run.STEPS
    widths = {step: len(rows) for step, rows in steps_of(lost, 0)}
    alone = [step for step, width in widths.items() if width == 8]
    assert alone[0] in GONE_ON_FROM and alone == list(range(alone[0], toy_run.STEPS))
    assert {widths[step] for step in range(alone[0])} == {4}
