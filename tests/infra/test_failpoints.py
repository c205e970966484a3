"""Failpoints act where and when they are told to, and nowhere else."""

import subprocess
import sys
from collections import Counter

import pytest

from infra import failpoints
from infra.failpoints import FAILPOINTS, FailpointError, failpoint


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERNVL_FAILPOINT", raising=False)
    monkeypatch.setattr(failpoints, "_passed", Counter())


def test_unset_nothing_happens() -> None:
    for name in FAILPOINTS:
        failpoint(name)


def test_the_nth_passing_acts_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_FAILPOINT", "after_file:raise:3")
    failpoint("after_file")
    failpoint("before_file")
    failpoint("after_file")
    with pytest.raises(FailpointError, match="after_file"):
        failpoint("after_file")
    failpoint("after_file")


def test_a_failpoint_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(failpoints.time, "sleep", waited.append)
    monkeypatch.setenv("INTERNVL_FAILPOINT", "after_file:sleep")
    failpoint("after_file")
    assert waited == [failpoints.SLEEP_SECONDS]


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit", 1)])
def test_a_process_ends_without_cleaning_up(action: str, code: int) -> None:
    program = (
        "import os; os.environ['INTERNVL_FAILPOINT'] = f'before_marker:{0}'\n"
        "from infra.failpoints import failpoint\n"
        "try:\n    failpoint('before_marker')\nfinally:\n    print('cleaned up')\n"
    ).replace("{0}", action)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "")


@pytest.mark.parametrize("wanted", ["after_file", "nowhere:kill", "after_file:burn", "after_file:kill:0", "a:b:c:d"])
def test_a_wrong_wish_is_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("INTERNVL_FAILPOINT", wanted)
    with pytest.raises(
        ValueError, match=r"name:action\[:nth\]; names are .*after_manifest, .*during_removal; actions are kill"
    ):
        failpoint("after_file")


def test_a_place_that_is_not_on_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no failpoint 'somewhere'"):
        failpoint("somewhere")
