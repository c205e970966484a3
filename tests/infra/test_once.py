"""Works that one process of a machine does for all: who waits for whom, and who does not wait for the dead."""

import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from infra.once import first_alone

HOLDER = """
import sys, time
from infra.once import first_alone
with first_alone("work"):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the locks, which no other test has."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"internvl-once-{os.getuid()}"


def come(barrier: threading.Barrier) -> None:
    """Do a work together with all that are in."""
    with first_alone("work"):
        barrier.wait(timeout=20)


def test_the_others_come_in_when_the_first_leaves_and_all_together() -> None:
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        with first_alone("work"), first_alone("another work"):
            others = [pool.submit(come, barrier) for _ in range(2)]
            done, _ = wait(others, timeout=0.3)
            assert not done and barrier.n_waiting == 0
        assert all(other.exception() is None for other in others), "both were in at the same time"


def test_nobody_waits_for_the_dead() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "in\n"
    with holder.stdout, ThreadPoolExecutor(1) as pool:
        other = pool.submit(come, threading.Barrier(1))
        done, _ = wait([other], timeout=0.3)
        holder.kill()
        holder.wait()
        assert not done and other.result(timeout=20) is None


def test_the_folder_of_the_locks_is_ours_alone(locks: Path) -> None:
    locks.mkdir(mode=0o777)
    locks.chmod(0o777)
    with (
        pytest.raises(PermissionError, match=r"to hold the locks of works.*others may write there.*TMPDIR"),
        first_alone("work"),
    ):
        pass
