"""A lease: one holder, taken over when it expired or died, and a late holder refused."""

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import lease
from infra.lease import Lease, LeaseHeld, LeaseLost
from infra.s3_objects import Bucket
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


def test_a_living_holder_of_this_machine_is_never_taken_over(store: Store) -> None:
    first = Lease.take(store, FOLDER, "asleep", ttl_seconds=1000)  # does not renew, as after a laptop's sleep
    with pytest.raises(LeaseHeld, match="asleep"):
        Lease.take(store, FOLDER, "next", ttl_seconds=0)
    lease.check(store, FOLDER, first.number)
    first.give_back()


def test_a_clock_that_is_ahead_takes_over_nothing(
    store: Store, elsewhere: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lease.take(store, FOLDER, "healthy", ttl_seconds=6)
    elsewhere.undo()
    ahead = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: ahead)
    with pytest.raises(LeaseHeld, match="healthy"):
        Lease.take(store, FOLDER, "next", ttl_seconds=6)
    first.give_back()


def test_a_watcher_counts_only_what_it_saw() -> None:
    clock = [0.0]
    watch = lease.Watch(10, lambda: clock[0])

    def after(passed: float, number: int, renewed: float) -> float:
        clock[0] += passed
        return watch.still("x", lease.Tenure(number, {}, renewed))

    assert after(5, 1, 7.0) == 0, "the first look"
    assert after(5, 1, 7.0) == 5
    assert after(3600, 1, 7.0) == 15, "it was stopped for an hour itself"
    assert after(5, 1, 8.0) == 0, "renewed"
    assert after(5, 2, 8.0) == 0, "another holder"
    assert after(5, 2, 8.0) == 5
    watch.keep(())
    assert after(5, 2, 8.0) == 0, "forgotten"


def test_leases_of_nested_names_do_not_mix(store: Store) -> None:
    inner = Lease.take(store, f"{FOLDER}/photos/v1", "inner")
    outer = Lease.take(store, FOLDER, "outer")
    again = Lease.take(store, f"{FOLDER}/other/v1", "another inner")
    for folder, each in ((FOLDER, outer), (f"{FOLDER}/photos/v1", inner), (f"{FOLDER}/other/v1", again)):
        lease.check(store, folder, each.number)
        each.give_back()
    outer = Lease.take(store, FOLDER, "outer")
    assert outer.number == 2
    assert len(store.keys(f"{FOLDER}/photos/v1")) == 1, "a new holder tidies its own lease alone"
    outer.give_back()


def test_a_lease_needs_no_right_to_list_uploads(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("s3:ListBucketMultipartUploads")

    monkeypatch.setattr(Bucket, "uploads", refused)
    held = Lease.take(s3_store, FOLDER, "job")
    lease.check(s3_store, FOLDER, held.number)
    assert lease.newest(s3_store, FOLDER) is not None
    held.give_back()


def test_a_slow_taker_does_not_get_a_number_that_was_passed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Lease.take(store, FOLDER, "first").give_back()
    create, rivals = Store.create, list[Lease]()

    def slow(self: Store, key: str, data: bytes | Path) -> bool:
        if not rivals:
            monkeypatch.setattr(Store, "create", create)
            Lease.take(store, FOLDER, "second").give_back()
            rivals.append(Lease.take(store, FOLDER, "third"))
        return create(self, key, data)

    monkeypatch.setattr(Store, "create", slow)
    with pytest.raises(LeaseHeld, match="third"):
        Lease.take(store, FOLDER, "slow")
    lease.check(store, FOLDER, 3)
    assert len(store.keys(FOLDER)) == 1
    rivals[0].give_back()


def test_only_the_tenure_that_is_over_is_forgotten(store: Store) -> None:
    Lease.take(store, FOLDER, "crashed").give_back()
    again = Lease.take(store, FOLDER, "started again")
    lease.forget(store, FOLDER, 1)
    lease.check(store, FOLDER, again.number)
    again.give_back()
    lease.forget(store, FOLDER, again.number)
    assert lease.newest(store, FOLDER) is None


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
    (told, tell), (gate, keeper) = os.pipe(), os.pipe()
    for _ in range(6):
        if not (child := os.fork()):
            os.close(keeper)
            try:
                Lease.take(store, FOLDER, "rival")
                os.write(tell, b"w")
            except LeaseHeld:
                os.write(tell, b"h")
            os.read(gate, 1)  # the winner lives until all have tried
            os._exit(0)
        children.append(child)
    ends = b"".join(os.read(told, 1) for _ in children)
    os.close(keeper)
    for child in children:
        os.waitpid(child, 0)
    for descriptor in (told, tell, gate):
        os.close(descriptor)
    assert sorted(ends) == sorted(b"whhhhh")


def test_a_lease_is_not_sent_to_others(tmp_path: Path) -> None:
    held = Lease.take(Store(str(tmp_path)), FOLDER, "job")
    with pytest.raises(TypeError, match="stays with its holder"):
        pickle.dumps(held)
    held.give_back()
