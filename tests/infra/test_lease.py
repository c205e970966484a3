"""A lease: one holder, taken over when it expired or died, and a late holder refused."""

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import lease
from infra.lease import Lease, LeaseHeld, LeaseLost
from infra.storage import Store

FOLDER = "leases/pool/x/v1"


@pytest.fixture
def store(any_store: Store) -> Store:
    return any_store


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What a process of another machine says of itself."""
    with monkeypatch.context() as patch:
        told = {"host": "other", "machine": "another", "pid": 1, "started": "1"}
        patch.setattr(lease, "here", lambda: dict(told))
        yield patch


def test_a_second_holder_is_told_who_the_first_one_is(store: Store) -> None:
    first = Lease.take(store, FOLDER, "job-1")
    with pytest.raises(LeaseHeld, match=rf"pool/x/v1 is being written by job-1 \(process {os.getpid()} on "):
        Lease.take(store, FOLDER, "job-2")
    first.give_back()
    second = Lease.take(store, FOLDER, "job-2")
    assert (first.number, second.number) == (1, 2)
    second.give_back()
    assert len(store.keys(FOLDER)) == 1


def test_a_holder_of_another_machine_is_waited_for_until_it_renews(
    store: Store, elsewhere: pytest.MonkeyPatch
) -> None:
    first = Lease.take(store, FOLDER, "job-1", ttl_seconds=18)
    elsewhere.undo()
    with pytest.raises(LeaseHeld, match="job-1"):
        Lease.take(store, FOLDER, "job-2", ttl_seconds=18)
    first.give_back()


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_old_holder_refused(
    store: Store, elsewhere: pytest.MonkeyPatch
) -> None:
    late = Lease.take(store, FOLDER, "late", ttl_seconds=1000)  # its first renewal is far away: it stands still
    elsewhere.undo()
    time.sleep(1.2)
    lease.check(store, FOLDER, late.number)
    new = Lease.take(store, FOLDER, "new", ttl_seconds=0.5)
    with pytest.raises(LeaseLost, match="taken over: lease 2, not 1"):
        lease.check(store, FOLDER, late.number)
    late.give_back()  # must not free what it has no more
    lease.check(store, FOLDER, new.number)
    assert (tenure := lease.newest(store, FOLDER)) is not None
    assert tenure.holder.startswith("new ")
    assert not tenure.free
    new.give_back()


def test_a_dead_holder_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    if not (child := os.fork()):
        Lease.take(store, FOLDER, "killed")
        os._exit(0)
    os.waitpid(child, 0)
    started = time.monotonic()
    assert Lease.take(store, FOLDER, "next").number == 2
    assert time.monotonic() - started < lease.TTL_SECONDS / 2


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    store, children = Store(str(tmp_path)), []
    for _ in range(6):
        if not (child := os.fork()):
            try:
                Lease.take(store, FOLDER, "rival")
            except LeaseHeld:
                os._exit(1)
            time.sleep(1.5)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes.count(0) == 1


def test_a_lease_is_not_sent_to_others(tmp_path: Path) -> None:
    held = Lease.take(Store(str(tmp_path)), FOLDER, "job")
    with pytest.raises(TypeError, match="stays with its holder"):
        pickle.dumps(held)
    held.give_back()
