"""Killed anywhere, run again: the same bytes as if nothing had happened, and nothing but orphans left over."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listed_web import ROWS, listed_web, write_list
from s3_fault_proxy import Fault, Faults, s3_fault_proxy
from stage_forks import Forks

from infra.cluster import InlineCluster, RayCluster
from infra.failpoints import PART_FAILPOINTS
from infra.storage import Store
from stages.download import download_part
from stages.manifest import Part, load, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sweep import Kind, find_leftovers, remove_leftovers

LISTING, POOL = Ref(name="listing/own", version="v1"), Ref(name="pool/own", version="v1")
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with listed_web() as address:
        yield address


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    found = Forks(tmp_path_factory.mktemp("forks") / "log.txt")
    yield found
    found.close()


@pytest.fixture(scope="module")
def specs(host: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the two stages: 24 rows, one without a caption, in four parts."""
    return specs_of(write_list(tmp_path_factory.mktemp("list") / "list.csv", host), host)


def specs_of(path: Path, host: str, rows_per_part: int = 6, image_size: int = 32) -> list[dict[str, Any]]:
    columns = {"url": "url", "caption": "text"}
    listed = {"source": "own", "paths": [str(path)], "columns": columns, "rows_per_part": rows_per_part}
    fetched = {"image_size": image_size, "allow_hosts": [host], "threads": 4}
    listing = StageSpec(stage="list_urls", artifact=LISTING, parameters=listed)
    pool = StageSpec(stage="download", artifact=POOL, parameters=fetched, inputs=(LISTING,))
    return [listing.model_dump(mode="json"), pool.model_dump(mode="json")]


def state(store: Store) -> dict[str, str]:
    """Return the hash of every file that a manifest counts, and the digest of every manifest, all verified."""
    found = {}
    for ref in (LISTING, POOL):
        manifest = load(store, ref)
        assert verify(store, manifest) == []
        manifest.ledger.check(str(ref))
        found[str(ref)] = manifest.digest
        found |= {manifest.key(file): store.sha256(manifest.key(file)) for file in manifest.files()}
    return found


@pytest.fixture(scope="module")
def untouched(forks: Forks, specs: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the state of a run that nothing happened to."""
    store = Store(str(tmp_path_factory.mktemp("untouched")))
    assert forks.run(store.root, specs) == [0], forks.log.read_text()[-2000:]
    listing, pool = load(store, LISTING), load(store, POOL)
    assert (listing.ledger.listed, listing.ledger.kept, len(listing.parts)) == (ROWS, ROWS - 1, 4)
    assert pool.totals["outcomes"] == {"fetched": 18, "not_found": 3, "not_image": 2}
    assert find_leftovers(store, 0).leftovers == []
    return state(store)


def only_orphans_are_left_and_the_sweep_takes_them(store: Store) -> int:
    found = find_leftovers(store, 0).leftovers
    assert {each.kind for each in found} <= {Kind.TEMPORARY, Kind.UNCOUNTED}
    assert len(remove_leftovers(store, found)) == len(found)
    assert find_leftovers(store, 0).leftovers == []
    return len(found)


@pytest.mark.parametrize("nth", [1, 6])
@pytest.mark.parametrize("failpoint", PART_FAILPOINTS)
def test_killed_at_a_failpoint_and_run_again_gives_the_same_bytes(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path, failpoint: str, nth: int
) -> None:
    if "manifest" in failpoint:
        nth = min(nth, 2)  # two stages, two manifests; of the rest the sixth belongs to the second stage
    if later := "temporary" in failpoint and (1 if nth == 1 else 3):
        nth += later  # the leases are files too: one is taken before each stage, and the first given back between
    store = Store(str(tmp_path / "store"))
    assert forks.run(store.root, specs, INTERNVL_FAILPOINT=f"{failpoint}:kill:{nth}") == [KILLED]
    assert find_leftovers(store, 3600).leftovers == [], "what a job wrote a moment ago is nobody's to sweep"
    assert forks.run(store.root, specs) == [0], forks.log.read_text()[-2000:]
    assert state(store) == untouched
    left = only_orphans_are_left_and_the_sweep_takes_them(store)
    # The first file of all is a spill of the listing, and spills go when it stands; the sixth is the pool's.
    assert left == (1 if failpoint in ("during_temporary", "after_temporary") and nth == 9 else 0)
    assert state(store) == untouched


def test_killed_again_and_again_until_it_gets_through(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    assert forks.run(store.root, specs[:1]) == [0]  # a listing is read anew by every attempt
    killed = 0
    # Each attempt lives to publish one more part than the one before it found.
    while forks.run(store.root, specs, INTERNVL_FAILPOINT="after_marker:kill:1") == [KILLED]:
        killed += 1
        assert killed <= 4
    assert killed == 4, "four parts, one per attempt: nothing was made twice"
    assert state(store) == untouched
    assert only_orphans_are_left_and_the_sweep_takes_them(store) == 0


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_bytes(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path, workers: int
) -> None:
    assert forks.run(str(tmp_path), specs, workers=workers) == [0], forks.log.read_text()[-2000:]
    assert state(Store(str(tmp_path))) == untouched


@pytest.mark.parametrize("workers", [0, 2])
def test_an_object_store_holds_the_same_bytes(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], s3_store: Store, workers: int
) -> None:
    environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    assert forks.run(s3_store.root, specs, workers=workers, **environment) == [0], forks.log.read_text()[-2000:]
    assert state(s3_store) == untouched


def test_a_killed_upload_and_a_killed_marker_leave_an_object_store_right(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], s3_store: Store
) -> None:
    environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    for failpoint in ("after_file:kill:3", "before_marker:kill:3", "before_manifest:kill:1", "after_manifest:kill:1"):
        assert forks.run(s3_store.root, specs, INTERNVL_FAILPOINT=failpoint, **environment) == [KILLED], failpoint
    assert forks.run(s3_store.root, specs, **environment) == [0], forks.log.read_text()[-2000:]
    assert state(s3_store) == untouched


def test_an_object_store_that_fails_now_and_then_holds_the_same_bytes(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], s3_store: Store, s3_endpoint: str
) -> None:
    faults = Faults(7, *(Fault(kind, probability=0.04) for kind in ("503", "reset", "lost", "cut")))
    with s3_fault_proxy(s3_endpoint, faults) as proxy:
        environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        environment["AWS_ENDPOINT_URL"] = proxy
        assert forks.run(s3_store.root, specs, **environment) == [0], forks.log.read_text()[-2000:]
    assert sum(faults.played.values()) >= 5
    assert state(s3_store) == untouched


def test_two_downloaders_of_one_artifact_end_with_one_result(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    codes = forks.run(store.root, specs, times=3)
    assert 0 in codes, forks.log.read_text()[-2000:]
    # One writes; who comes meanwhile is told so, and who comes later finds it done.
    assert forks.log.read_text().count("is being written by") == len([code for code in codes if code])
    assert state(store) == untouched
    assert only_orphans_are_left_and_the_sweep_takes_them(store) == 0


def test_a_killed_worker_of_a_pool_fails_the_run_and_the_next_run_completes_it(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    assert forks.run(store.root, specs[:1]) == [0]
    (code,) = forks.run(store.root, specs[1:], workers=2, INTERNVL_FAILPOINT="before_marker:kill:1")
    assert code == 1 and "BrokenProcessPool" in forks.log.read_text(), "it ends, and says so: it never hangs"
    assert forks.run(store.root, specs, workers=2) == [0]
    assert state(store) == untouched


def test_other_parameters_after_a_kill_are_never_mixed_in(
    forks: Forks, specs: list[dict[str, Any]], host: str, tmp_path: Path
) -> None:
    path = write_list(tmp_path / "list.csv", host)
    killed, clean = Store(str(tmp_path / "killed")), Store(str(tmp_path / "clean"))
    assert forks.run(killed.root, specs_of(path, host), INTERNVL_FAILPOINT="after_marker:kill:6") == [KILLED]
    assert forks.run(killed.root, specs_of(path, host)[:1]) == [0]
    changed = [specs_of(path, host)[0], specs_of(path, host, image_size=24)[1]]
    assert forks.run(killed.root, changed) == [0]
    assert forks.run(clean.root, changed) == [0]
    assert state(killed) == state(clean)
    found = find_leftovers(killed, 0).leftovers
    assert [each.kind for each in found].count(Kind.MARKER) == 2 and found[0].kind is Kind.MARKER
    assert {each.kind for each in found} == {Kind.MARKER, Kind.UNCOUNTED}
    remove_leftovers(killed, found)
    assert find_leftovers(killed, 0).leftovers == []
    assert state(killed) == state(clean)


def test_torn_and_foreign_markers_count_for_nothing(
    forks: Forks, specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    assert forks.run(store.root, specs, INTERNVL_FAILPOINT="before_manifest:kill:2") == [KILLED]
    markers = store.keys(f"{POOL.folder}/markers")
    for marker, damage in zip(markers, (b"", b'{"key":', b"[]", b'{"key":"foreign"}'), strict=True):
        store.write(marker, damage)
    store.write(f"{POOL.folder}/markers/report.json", b"{}")
    assert forks.run(store.root, specs) == [0], forks.log.read_text()[-2000:]
    assert state(store) == untouched
    assert all(len(store.read(marker)) > 100 for marker in markers), "each was written again"


def test_the_command_that_a_cluster_runs_is_killed_and_run_again(
    specs: list[dict[str, Any]], untouched: dict[str, str], tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "store"))
    for number, spec in enumerate(specs):
        store.write(f"specs/{number}.json", StageSpec.model_validate(spec).model_dump_json().encode())
    materialize(StageSpec.model_validate(specs[0]), store, InlineCluster())
    command = [sys.executable, "-m", "stages.run", "specs/1.json", "--store", store.root, "--inline"]
    dying = {**os.environ, "INTERNVL_FAILPOINT": "after_file:kill:4", "TMPDIR": str(tmp_path)}
    assert subprocess.run(command, env=dying, capture_output=True, timeout=120).returncode == KILLED
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stdout + again.stderr
    assert str(POOL) in again.stdout
    assert state(store) == untouched


class KilledOnce:
    """`download_part` for Ray's workers; the first process that comes here dies after it wrote a part's files."""

    def __init__(self, latch: str) -> None:
        self._latch = latch

    def __call__(self, item: Any, **given: Any) -> Part:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._latch, os.O_CREAT | os.O_EXCL))
            os.environ["INTERNVL_FAILPOINT"] = "before_marker:kill"
        return download_part(item, **given)


@pytest.mark.ray
def test_a_killed_ray_worker_is_replaced_and_the_run_ends_with_the_same_bytes(
    ray_cluster: RayCluster,
    specs: list[dict[str, Any]],
    untouched: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, latch = Store(str(tmp_path / "store")), tmp_path / "latch"
    monkeypatch.setattr("stages.download.download_part", KilledOnce(str(latch)))
    for spec in specs:
        materialize(StageSpec.model_validate(spec), store, ray_cluster)
    assert latch.exists(), "one worker died"
    assert state(store) == untouched
    assert only_orphans_are_left_and_the_sweep_takes_them(store) == 0
