"""A process that hangs or dies: the others stop in time, say which it is, and the run can go on."""

import json
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from forked_runs import Forks
from lost_runs import attempt
from placed_runs import build, job_of

from infra.storage import Store
from stages.checkpoints import fetch
from stages.manifest import load
from stages.training.gang import Gang
from stages.training.presence import LostPeer, Presence
from stages.workspace import Placement


def history_of(folder: Path, scratch: Path) -> list[dict[str, float]]:
    store = Store(str(folder))
    files = fetch(store, load(store, job_of(folder, "plain", Placement()).output.ref), scratch)
    return [json.loads(line) for line in (files / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("rank", "how"), [(1, "sleeps"), (0, "killed")])
def test_the_others_name_who_is_missing_and_the_run_goes_on(
    forks: Forks, tmp_path: Path, rank: int, how: str
) -> None:
    (tmp_path / "store").mkdir()
    codes = forks.run(tmp_path / "store", 2, job="lost_runs:lose", rank=rank, how=how)
    assert codes[1 - rank] == os.EX_TEMPFAIL and codes[rank] == -signal.SIGKILL, forks.said()
    assert f"later: process {rank} of 2 does not answer" in forks.said()
    assert "in or after step 2" in forks.said() or "in or after step 3" in forks.said()
    for folder in ("store", "whole"):
        attempt(tmp_path / folder, build)
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
