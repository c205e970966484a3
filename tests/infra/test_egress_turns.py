import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.egress import EgressError
from infra.hosts import Turns
from infra.slot_file import SlotFile

HOLDER = """
import sys
from infra.hosts import Turns
with Turns(1, folder=sys.argv[1]).at("a.test"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the only turn, until it is told to end or killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "mine\n"
        try:
            yield process
        finally:
            process.kill()


def is_free(turns: Turns, host: str = "a.test") -> bool:
    try:
        with turns.at(host):
            return True
    except EgressError as error:
        assert error.reason == "rate_limited"
        return False


def most_at_once(turns: list[Turns], requests: int = 60) -> int:
    """Return how many threads were at one host at the same time."""
    lock, now, most = threading.Lock(), 0, 0

    def one(i: int) -> None:
        nonlocal now, most
        with turns[i % len(turns)].at("a.test"):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.003)
            with lock:
                now -= 1

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(one, range(requests)))
    return most


@pytest.mark.parametrize("shared", [False, True])
def test_a_host_gets_so_many_at_once_and_no_more(tmp_path: Path, shared: bool) -> None:
    assert most_at_once([Turns(3, folder=str(tmp_path) if shared else None)]) == 3


def test_guards_that_share_a_folder_share_their_turns(tmp_path: Path) -> None:
    assert most_at_once([Turns(3, folder=str(tmp_path)) for _ in range(3)]) == 3
    assert most_at_once([Turns(3) for _ in range(3)]) > 3, "without a folder each counts for itself"


def test_hosts_do_not_wait_for_each_other(tmp_path: Path) -> None:
    turns = Turns(1, folder=str(tmp_path), patience_seconds=0.1)
    with turns.at("a.test"):
        assert is_free(turns, "b.test") and not is_free(turns)
    assert is_free(turns)


def test_a_turn_of_another_process_counts_and_ends_when_it_is_killed(tmp_path: Path) -> None:
    turns = Turns(1, folder=str(tmp_path), patience_seconds=0.1)
    with holder(tmp_path) as process:
        assert not is_free(turns)
        assert is_free(Turns(1, folder=str(tmp_path / "other"), patience_seconds=0.1))
        process.kill()
        process.wait()
        assert is_free(turns)


@pytest.mark.parametrize("shared", [False, True])
def test_requests_are_spread_evenly(tmp_path: Path, shared: bool) -> None:
    turns = Turns(8, per_second=50, folder=str(tmp_path) if shared else None)
    times: list[float] = []

    def one(_: int) -> None:
        with turns.at("a.test"):
            times.append(time.monotonic())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(16)))
    # A thread may be late on a busy machine, so only the whole is held against the rate, never two neighbours.
    assert max(times) - min(times) >= 15 / 50 - 0.03


def test_patience_ends_before_a_turn_that_is_too_far_away() -> None:
    turns = Turns(8, per_second=2, patience_seconds=0.05)
    assert is_free(turns) and not is_free(turns)
    started = time.monotonic()
    assert not is_free(turns) and time.monotonic() - started < 0.4, "a turn not taken is not waited for"


@pytest.mark.parametrize("shared", [False, True])
def test_a_host_that_wants_to_be_left_alone_is_left_alone_by_all(tmp_path: Path, shared: bool) -> None:
    first = Turns(4, folder=str(tmp_path) if shared else None)
    second = Turns(4, folder=str(tmp_path)) if shared else first
    first.hold("a.test", 0.2)
    first.hold("a.test", 0.01)
    with second.at("b.test") as waited:
        assert waited < 0.1
    with second.at("a.test") as waited:
        assert 0.1 < waited < 5


def test_ten_thousand_hosts_leave_one_small_file(tmp_path: Path) -> None:
    turns = Turns(2, folder=str(tmp_path))
    for i in range(10_000):
        turns.hold(f"{i}.test", 0.0)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size <= 1 << 20


def test_a_folder_of_turns_is_ours_alone(tmp_path: Path) -> None:
    folder = tmp_path / "turns"
    SlotFile(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    SlotFile(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "one of an earlier release is closed to others"


@pytest.mark.parametrize("what", ["link", "dangling", "file", "open", "foreign"])
def test_a_folder_that_others_may_have_laid_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder, aim = tmp_path / "turns", tmp_path / "aim"
    if what in ("link", "dangling"):
        folder.symlink_to(aim)
    if what == "link":
        aim.mkdir(mode=0o700)
    elif what == "file":
        folder.touch()
    elif what in ("open", "foreign"):
        folder.mkdir()
        folder.chmod(0o777 if what == "open" else 0o700)
    if what == "foreign":
        another = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: another)
    why = "others may write there" if what == "open" else "no folder of this user"
    with pytest.raises(PermissionError, match=rf"turns is to hold .*{why}; .*remove it, or set TMPDIR"):
        SlotFile(str(folder))
    assert not aim.exists() or not list(aim.iterdir())


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / f"turns-{boot}").symlink_to(tmp_path / "aim")
    with pytest.raises(OSError, match="symbolic links"):
        SlotFile(str(tmp_path))
    assert not (tmp_path / "aim").exists()


def test_a_slot_is_freed_for_others(tmp_path: Path) -> None:
    here, there = SlotFile(str(tmp_path)), SlotFile(str(tmp_path))
    bucket = here.bucket("a.test")
    slot = here.take(bucket, 1)
    assert slot == 0 and there.take(bucket, 1) is None and here.take(bucket, 1) is None
    here.free(bucket, slot)
    assert there.take(bucket, 1) == 0


def test_a_host_that_answers_nobody_holds_up_nobody() -> None:
    turns = Turns(4, most_timeouts=3)
    for timed_out in (True, True, False, True, True):
        turns.note("a.test", timed_out)
    assert is_free(turns)
    turns.note("a.test", timed_out=True)
    with pytest.raises(EgressError) as error, turns.at("a.test"):
        pass
    assert error.value.reason == "timeout" and is_free(turns, "b.test")
