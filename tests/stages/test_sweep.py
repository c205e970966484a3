"""What killed runs left is found and nothing else is: what counts, and what is young, stays."""

import os
import time
from pathlib import Path

import pytest

from infra import scratch
from infra.scratch import left_behind, scratch_folder
from infra.storage import Store
from stages.manifest import Ledger, Manifest, Part, load, verify
from stages.ref import Ref
from stages.sweep import DAY_SECONDS, Kind, find_leftovers, remove_leftovers
from stages.workspace import Output

DIGEST = "d" * 64


def output(store: Store, name: str = "pool/x", version: str = "v1", **identity: object) -> Output:
    return Output(store=store, ref=Ref(name=name, version=version), stage="toy", identity={"inputs": {}, **identity})


def part(to: Output, key: str = "0", body: bytes = b"body") -> Part:
    return to.part(key, DIGEST, Ledger(listed=1, kept=1), {"rows": (f"{key}.bin", body)})


def finished(store: Store, name: str = "pool/x", version: str = "v1") -> Manifest:
    to = output(store, name, version)
    return to.commit([part(to)], reports={"page": ("page.html", b"<p>")})


def age(store: Store, hours: float) -> None:
    """Make everything in a store on disk older."""
    for each in store.entries():
        os.utime(store.path(each.key), (each.modified - hours * 3600,) * 2)


def kinds(store: Store, grace: float = DAY_SECONDS, **only: str) -> dict[str, Kind]:
    return {each.entry.key: each.kind for each in find_leftovers(store, grace, **only).leftovers}


def test_a_finished_artifact_has_no_leftovers_however_old(any_store: Store) -> None:
    finished(any_store)
    finished(any_store, "evaluations/reports", "parts")  # names like our own folders'
    finished(any_store, "a/markers/b")
    assert kinds(any_store, 0) == {}


def test_every_kind_is_found_when_it_is_old_and_only_then(store: Store) -> None:
    manifest = finished(store)
    running = output(store, "pool/running")
    part(running)
    old = output(store, code="old")
    part(old, body=b"of another configuration")
    tmp = f"pool/x/v1/parts/.{'a' * 32}.tmp"
    probe = f"tmp/probe-{'0' * 32}"
    orphan = output(store, "pool/running").file("parts/1.bin", b"no marker counts it").name
    for key in (tmp, probe, "pool/x/v1/state/abc/step-1.pt", "pool/running/v1/spill/0"):
        store.write(key, b"x")
    store.write("pool/running/v1/markers/1-aaaaaaaaaaaa-bbbbbbbbbbbb.json", b'{"half')
    store.write("pool/x/v1/notes.txt", b"somebody's own")
    assert kinds(store) == {}, "all of it may belong to a running job"
    age(store, 25)
    found = kinds(store)
    (stale,) = (key for key in found if found[key] is Kind.MARKER)
    assert stale.startswith("pool/x/v1/markers/")
    (other,) = (key for key in found if key.startswith("pool/x/v1/parts/0-"))
    assert found == {
        stale: Kind.MARKER,
        other: Kind.UNCOUNTED,
        tmp: Kind.TEMPORARY,
        probe: Kind.TEMPORARY,
        f"pool/running/v1/{orphan}": Kind.UNCOUNTED,
        "pool/x/v1/state/abc/step-1.pt": Kind.PRIVATE,
        "pool/running/v1/markers/1-aaaaaaaaaaaa-bbbbbbbbbbbb.json": Kind.TORN,
    }
    leftovers = find_leftovers(store).leftovers
    assert leftovers[0].kind is Kind.MARKER, "a marker goes before the files that it counts"
    assert remove_leftovers(store, leftovers) == leftovers
    assert kinds(store) == {}
    assert verify(store, load(store, manifest.ref)) == []
    assert running.done("0", DIGEST) is not None, "a part of an unfinished run still counts"
    assert store.exists("pool/x/v1/notes.txt") and store.exists("pool/running/v1/spill/0")


def test_a_part_that_a_running_job_just_wrote_stays(any_store: Store) -> None:
    output(any_store).file("parts/0.bin", b"its marker comes in a moment")
    assert kinds(any_store, 60) == {}
    assert list(kinds(any_store, 0).values()) == [Kind.UNCOUNTED]


def test_an_orphan_that_a_new_run_takes_up_again_stays(store: Store) -> None:
    to = output(store)
    to.file("parts/0.bin", b"body")
    age(store, 25)
    planned = find_leftovers(store).leftovers
    assert len(planned) == 1
    to.file("parts/0.bin", b"body")  # between the listing and the removal
    assert remove_leftovers(store, planned) == [], "it was touched, so it is somebody's again"
    assert kinds(store) == {}


def test_an_artifact_whose_manifest_cannot_be_read_is_spared_and_named(store: Store) -> None:
    manifest = finished(store)
    output(store).file("parts/9.bin", b"orphan")
    store.write(manifest.ref.key("manifest.json"), b'{"ref": ')
    found = find_leftovers(store, 0)
    assert found.leftovers == []
    assert len(found.spared) == 1 and "pool/x/v1/manifest.json cannot be read" in found.spared[0]


def test_one_artifact_or_one_version_can_be_swept_alone(store: Store) -> None:
    for name in ("pool/x", "pool/y"):
        for version in ("v1", "v2"):
            output(store, name, version).file("parts/0.bin", b"orphan")
    assert len(kinds(store, 0)) == 4
    assert len(kinds(store, 0, name="pool")) == 4
    assert {key.rpartition("/parts")[0] for key in kinds(store, 0, name="pool/x")} == {"pool/x/v1", "pool/x/v2"}
    assert {key.rpartition("/parts")[0] for key in kinds(store, 0, version="v2")} == {"pool/x/v2", "pool/y/v2"}


@pytest.mark.parametrize("only", [{"name": "../x"}, {"name": "/etc"}, {"version": ".."}])
def test_names_that_leave_the_store_are_refused(store: Store, only: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="letters"):
        find_leftovers(store, 0, **only)


def test_scratch_folders_of_killed_stages_are_found_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "internvl-of-somebody-else").mkdir()
    with scratch_folder("download") as live:
        (live / "rows").write_bytes(b"12345")
        assert left_behind(0) == [], "its process lives"
        child = os.fork()
        if not child:
            with scratch_folder("score") as dying:
                (dying / "rows").write_bytes(b"123")
                os._exit(9)
        os.waitpid(child, 0)
        assert [(folder.name.split("-")[1], size) for folder, size in left_behind(0)] == [("score", 3)]
        assert left_behind(3600) == []
    assert not live.exists()


def test_ten_thousand_markers_become_a_manifest_that_verifies_within_seconds(store: Store) -> None:
    to = output(store)
    items = [(f"{number:06d}", f"{number:064x}") for number in range(10_000)]
    folder = Path(store.root) / to.ref.folder
    for sub in ("parts", "markers"):
        (folder / sub).mkdir(parents=True)
    write_fast(to, items)
    started = time.process_time()
    parts = to.standing(items)
    manifest = to.commit(parts)
    assert (len(parts), manifest.ledger.kept) == (10_000, 10_000)
    assert verify(store, load(store, to.ref)) == []
    assert time.process_time() - started < 10, "five seconds, and twice that on a busy machine"
    assert find_leftovers(store, 0).leftovers == []


def write_fast(to: Output, items: list[tuple[str, str]]) -> None:
    """Publish parts without a flush for each: the test is of reading them."""
    import hashlib

    from stages.manifest import File, sealed

    for key, digest in items:
        body = key.encode()
        sha256 = hashlib.sha256(body).hexdigest()
        file = File(name=f"parts/{key}-{sha256[:16]}.bin", bytes=len(body), sha256=sha256)
        made = Part(key=key, input_digest=digest, ledger=Ledger(listed=1, kept=1), files={"rows": file})
        Path(to.store.path(to.ref.key(file.name))).write_bytes(body)
        marker = to.ref.key(f"markers/{key}-{to.config_digest[:12]}-{digest[:12]}.json")
        Path(to.store.path(marker)).write_bytes(sealed(made.model_dump(mode="json")))
