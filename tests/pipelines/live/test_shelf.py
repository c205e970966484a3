"""Looking at a store: cheaply, and never at something that is not so any more."""

import json
import time

import pytest
from live_world import CHAIN, ask, chain, make, tell

from infra.storage import Store
from pipelines.live import shelf as module
from pipelines.live.shelf import Shelf
from pipelines.live.states import QUIET_SECONDS, Doing, doing
from stages.failures import note_failure
from stages.manifest import Ledger
from stages.ref import Ref
from stages.workspace import Output


def names(shelf: Shelf) -> list[str]:
    return [str(each.ref) for each in shelf.look().finished]


def test_all_that_stands_is_found_on_disk_and_in_a_bucket(any_store: Store) -> None:
    chain(any_store)
    make(any_store, "pool/coyo", "v2", ("listing/coyo@v1",))
    ask(any_store, "score", "signals/coyo@v2", "pool/coyo@v2")
    found = Shelf(any_store).look()
    assert [str(each.ref) for each in found.finished] == sorted(
        [f"{name}@v1" for _, name, _ in CHAIN] + ["pool/coyo@v2"]
    )
    assert [str(each.ref) for each in found.begun] == ["signals/coyo@v2"]
    assert found.finished[2].ledger.listed == 8 and found.finished[2].ended > time.time() - 60


def test_a_manifest_is_parsed_once_and_again_when_it_was_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain(store)
    parsed: list[str] = []
    find = module.find
    monkeypatch.setattr(module, "find", lambda store, ref: (parsed.append(str(ref)), find(store, ref))[1])
    shelf = Shelf(store, patience_seconds=0)
    before = shelf.look()
    assert len(parsed) == len(CHAIN)
    assert shelf.look() == before and len(parsed) == len(CHAIN)
    store.remove("pool/coyo/v1/manifest.json")
    assert "pool/coyo@v1" not in names(shelf)
    make(store, "pool/coyo", "v1", ("listing/coyo",), again=1)
    assert "pool/coyo@v1" in names(shelf) and parsed[len(CHAIN) :] == ["pool/coyo@v1"]


def test_two_looks_in_a_moment_are_one(store: Store) -> None:
    shelf = Shelf(store, patience_seconds=60)
    assert names(shelf) == []
    chain(store)
    assert names(shelf) == []


def test_parts_of_an_artifact_are_not_walked_through(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    begun = Output(store, Ref(name="pool/wukong", version="v1"), "download", {})
    begun.part("000000", "d", Ledger(listed=1, kept=1), {"rows": ("deep/er/rows.bin", b"x")})
    listed: list[str] = []
    folders = Store.folders
    monkeypatch.setattr(Store, "folders", lambda self, prefix="": (listed.append(prefix), folders(self, prefix))[1])
    Shelf(store).look()
    assert listed and not any("parts" in each or "markers" in each for each in listed)


def test_a_damaged_manifest_is_told_and_hides_nothing_else(store: Store) -> None:
    chain(store)
    manifest = json.loads(store.read("pool/coyo/v1/manifest.json"))
    store.write("pool/coyo/v1/manifest.json", json.dumps({**manifest, "stage": "other"}, sort_keys=True).encode())
    found = Shelf(store).look()
    assert len(found.finished) == len(CHAIN) - 1
    (sentence,) = found.unreadable
    assert "pool/coyo/v1/manifest.json" in sentence and "run the stage again" in sentence


def test_parts_that_stand_are_known_by_their_markers(store: Store) -> None:
    ref = ask(store, "download", "pool/coyo@v1")
    output = Output(store, ref, "download", {})
    for key in ("000000", "with-a-dash"):
        output.part(key, "d" * 64, Ledger(listed=1, kept=1), {})
    (begun,) = Shelf(store).look().begun
    assert begun.made == ("000000", "with-a-dash")


def test_what_a_stage_does(store: Store) -> None:
    ref = ask(store, "download", "pool/coyo@v1")

    def now(running: list[str] | None, at: float = 1000.0) -> Doing:
        (begun,) = Shelf(store).look().begun
        return doing(begun, running, at)

    assert now([]) is Doing.STOPPED and now(["pool/coyo@v1"]) is Doing.RUNNING and now(None) is Doing.STOPPED
    tell(store, ref, 1, 4, at=990.0)
    assert now([]) is Doing.STOPPED
    assert now(None) is Doing.RUNNING, "nobody can be asked, and it spoke a moment ago"
    assert now(None, 990.0 + QUIET_SECONDS) is Doing.STOPPED
    tell(store, ref, 0, 4, note="waiting for 8 GPUs, 0 free", at=990.0)
    assert now(["pool/coyo@v1"]) is Doing.WAITING
    note_failure(store, ref, RuntimeError("no"))
    assert now([]) is Doing.FAILED and now(["pool/coyo@v1"]) is Doing.WAITING, "it runs again"
    assert now(None) is Doing.FAILED, "it failed after it last told of itself"


def test_a_version_that_is_known_is_not_looked_for_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store)
    shelf = Shelf(store, patience_seconds=0)
    before = shelf.look()
    asked: list[str] = []
    exists, read = Store.exists, Store.read
    monkeypatch.setattr(Store, "exists", lambda self, key: (asked.append(key), exists(self, key))[1])
    monkeypatch.setattr(Store, "read", lambda self, key: (asked.append(key), read(self, key))[1])
    assert shelf.look() == before
    assert not [key for key in asked if "/v1/" in key], "nor are its times read anew"


def test_times_that_are_written_after_the_manifest_are_found(store: Store) -> None:
    ref = make(store, "pool/coyo").ref
    times = store.read(ref.key("run.json"))
    store.remove(ref.key("run.json"))
    shelf = Shelf(store, patience_seconds=0)
    assert shelf.look().finished[0].ended == 0.0
    store.write(ref.key("run.json"), times)
    assert shelf.look().finished[0].ended == json.loads(times)["started"] + 2.0


def test_a_specification_that_is_gone_is_forgotten_and_a_strange_one_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store, "download", "pool/coyo@v1")
    store.write("specs/strange.json", b'{"of": "another version"}')
    shelf = Shelf(store, patience_seconds=0)
    assert [str(each.ref) for each in shelf.look().begun] == ["pool/coyo@v1"]
    read: list[str] = []
    original = Store.read
    monkeypatch.setattr(Store, "read", lambda self, key: (read.append(key), original(self, key))[1])
    store.remove("specs/pool-coyo-v1-0.json")
    assert shelf.look().begun == () and not [key for key in read if key.startswith("specs")]
