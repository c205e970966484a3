"""A disk that fills up in the middle of a run: said clearly, nothing half-written counts, and the run resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage import Store
from stages.manifest import load, verify
from stages.materialize import StageSpec
from stages.ref import Ref

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


def test_a_stage_that_cannot_write_ends_with_a_sentence_and_resumes(tmp_path: Path) -> None:
    lines = [f"http://host/{number}.jpg,Picture number {number}." for number in range(2000)]
    (tmp_path / "list.csv").write_text("url,text\n" + "\n".join(lines) + "\n")
    store, ref = Store(str(tmp_path / "store")), Ref(name="listing/own", version="v1")
    columns = {"url": "url", "caption": "text"}
    parameters = {"source": "own", "paths": [str(tmp_path / "list.csv")], "columns": columns}
    spec = StageSpec(stage="list_urls", artifact=ref, parameters=parameters)
    store.write("spec.json", spec.model_dump_json().encode())
    command = f"exec {sys.executable} -m stages.run spec.json --store {store.root} --inline"
    ended = subprocess.run(["bash", "-c", f"ulimit -f 8; {command}"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr[-2000:]
    assert "did not take listing/own/v1/parts/" in ended.stdout and "ulimit -f" in ended.stdout
    assert not [key for key in store.files() if "/parts/" in key], "nothing half-written is to be seen"
    assert subprocess.run(["bash", "-c", command], capture_output=True, timeout=120).returncode == 0
    assert verify(store, load(store, ref)) == []
