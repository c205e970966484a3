"""A disk that fills up in the middle of a run: said clearly, nothing half-written counts, and the run resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("small_disk.py")


def test_a_full_disk_and_a_read_only_disk_are_said_and_the_run_resumes(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk; test_storage_disk.py limits file sizes instead")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = ["unshare", "-rm", sys.executable, str(SCRIPT), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout)
    assert "did not take pool/x/v1/parts/" in told["full"] and "the disk is full: free space" in told["full"]
    assert "internvl sweep --apply" in told["full"]
    assert 1 <= told["finished"] < 6 and told["half_files"] == []
    assert "the disk is mounted read-only: set INTERNVL_STORE" in told["read_only"]
    assert told["still_finished"] == told["finished"]
    assert (told["kept"], told["damage"]) == (6, [])
