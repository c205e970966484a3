"""A process that hangs or dies: the others stop in time, say which it is, and the run can go on."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from installation import wait_for
from placed_runs import Drawn, Parameters, build, job_of, spawn

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.checkpoints import fetch
from stages.manifest import load
from stages.train_loop import train
from stages.training.gang import Gang
from stages.training.presence import LostPeer, Presence
from stages.workspace import Placement, Workspace

SECONDS = 5.0
LOSE = """
import sys
from test_presence import attempt
sys.exit(attempt(*sys.argv[1:]))
"""


def fault_of(rank: str, how: str, step: int) -> None:
    if step == 2 and os.environ.get("RANK") == rank:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)


def build_faulty(rank: str, how: str, parameters: Parameters, here: Workspace) -> Drawn:
    task = Drawn(parameters)
    made = task.batches

    def batches(rows: Sequence[int], step: int) -> dict[str, Any]:
        fault_of(rank, how, step)
        return made(rows, step)

    task.batches = batches  # type: ignore[method-assign]
    return task


def attempt(folder: str, scratch: str, rank: str = "", how: str = "") -> int:
    """Train; a run that lost a process says so and asks to be started again."""
    placement = Placement(checkpoint_steps=1, collective_timeout_seconds=SECONDS)
    job = job_of(Path(folder), "plain", placement)
    if how:
        # Starting takes longer on a busy machine than a step may take here.
        (Path(folder) / os.environ["RANK"]).touch()
        wait_for("both processes", lambda: (Path(folder) / "0").exists() and (Path(folder) / "1").exists())
    here = Workspace(job.output.store, InlineCluster(), Path(scratch), placement=placement)
    try:
        train(partial(build_faulty, rank, how) if how else build, job.parameters, job.output, here)
    except LostPeer as lost:
        print(lost, file=sys.stderr, flush=True)
        return os.EX_TEMPFAIL
    return 0


def history_of(folder: Path, scratch: Path) -> list[dict[str, float]]:
    store = Store(str(folder))
    files = fetch(store, load(store, job_of(folder, "plain", Placement()).output.ref), scratch)
    return [json.loads(line) for line in (files / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("rank", "how"), [(1, "sleeps"), (0, "killed")])
def test_the_others_name_who_is_missing_and_the_run_goes_on(tmp_path: Path, rank: int, how: str) -> None:
    (tmp_path / "store").mkdir()
    running = spawn(LOSE, [tmp_path / "store", tmp_path / "scratch", rank, how])
    survivor = running[1 - rank]
    said = survivor.communicate(timeout=120)[1]
    assert survivor.returncode == os.EX_TEMPFAIL, said[-2000:]
    assert f"process {rank} of 2 does not answer" in said
    assert "in or after step 2" in said or "in or after step 3" in said
    running[rank].kill()
    running[rank].communicate()
    for folder in ("store", "whole"):
        assert attempt(str(tmp_path / folder), str(tmp_path / "scratch")) == 0
    whole = history_of(tmp_path / "whole", tmp_path / "files")
    resumed = history_of(tmp_path / "store", tmp_path / "resumed")
    assert [row["step"] for row in resumed] == [1, 2, 3]
    for mine, theirs in zip(resumed, whole, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_an_error_of_its_own_is_not_taken_for_a_lost_process(tmp_path: Path) -> None:
    gang = Gang(job_of(tmp_path, "plain", Placement()))
    assert gang.lost(RuntimeError("shapes (2, 3) and (4, 5) do not fit")) is None


class Board:
    """Marks in a dictionary, as two processes see them."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.marks[key] = value

    def get(self, key: str) -> bytes:
        return self.marks[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.marks for key in keys)

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        if not self.check(keys):
            raise RuntimeError("timed out")


def test_who_is_behind_is_named_before_who_is_merely_silent() -> None:
    board = Board()
    seen = [Presence(board, rank, 3) for rank in range(3)]
    for step in range(3):
        seen[0].arrive(step)
        seen[1].arrive(step)
        if step < 2:
            seen[2].arrive(step)
    assert "process 2 of 3 does not answer (waited at most 5 s, in or after step 3)" in str(seen[1].lost(5))
    board.set("failed/2", "")
    board.set("failed/0", "")
    assert "the connection between the 3 processes broke" in str(seen[1].lost(5))
    board.set("wait/1/0", "")
    with pytest.raises(LostPeer, match="process 2 of 3"):
        seen[1].wait_for_all(1)
