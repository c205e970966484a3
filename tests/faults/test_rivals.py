"""Two hundred kills of rival writers whose results differ: each part is one attempt's, whole, no row doubled."""

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.storage import Store
from stages.sweep import Kind, find_leftovers, remove_leftovers


def test_of_rival_attempts_one_counts_and_the_rest_is_swept(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(Path(__file__).with_name("rivals.py")), root]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout)
    assert told["killed"] >= 200
    assert told["versions"] == [{"listed": 1200, "agree": True, "damage": []}] * len(told["versions"])
    store = Store(root)
    counted = set(store.keys())
    leftovers = find_leftovers(store, 0).leftovers
    assert {each.kind for each in leftovers} <= {Kind.TEMPORARY, Kind.UNCOUNTED}
    remove_leftovers(store, leftovers)
    assert find_leftovers(store, 0).leftovers == []
    assert len(store.keys()) == len(counted) - sum(each.kind is Kind.UNCOUNTED for each in leftovers)
    assert len([key for key in store.files() if "/parts/" in key]) == 120 * len(told["versions"])
