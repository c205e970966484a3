"""The commit protocol as every stage uses it: once is enough, twice is once, drift is refused."""

import hashlib
import json
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages import materialize as materialize_module
from stages.manifest import Ledger, LedgerError, Manifest, ManifestError, Part, find, load, verify
from stages.materialize import Drift, StageSpec, difference, materialize
from stages.ref import Ref
from stages.workspace import Output, Workspace, read_file


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: int = 5
    lose_a_row: bool = False


def make_part(number: int, output: Output, lose: bool) -> Part:
    ledger = Ledger(listed=10, kept=7, rejected=2, failed=0 if lose else 1)
    body = f"part {number}\n".encode() * 10
    return output.part(
        f"{number:04d}", hashlib.sha256(body).hexdigest(), ledger, {"text": (f"{number:04d}.txt", body)}
    )


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    work = partial(make_part, output=output, lose=parameters.lose_a_row)
    items = [
        (f"{n:04d}", hashlib.sha256(f"part {n}\n".encode() * 10).hexdigest(), n) for n in range(parameters.numbers)
    ]
    return output.commit(here.map_parts(output, work, items), totals={"inputs": sorted(here.inputs)})


@pytest.fixture(autouse=True)
def toy_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("stages.toy")
    module.VERSION, module.Parameters, module.run = 1, Parameters, run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stages.toy", module)
    monkeypatch.setattr(materialize_module, "STAGES", (*materialize_module.STAGES, "toy"))
    yield


def spec(version: str = "v1", inputs: tuple[Ref, ...] = (), **parameters: object) -> StageSpec:
    return StageSpec(
        stage="toy", artifact=Ref(name="toy", version=version), parameters=dict(parameters), inputs=inputs
    )


def test_an_artifact_is_whole_and_verifies(any_store: Store) -> None:
    manifest = materialize(spec(), any_store, InlineCluster())
    assert manifest.ledger == Ledger(listed=50, kept=35, rejected=10, failed=5)
    assert [part.key for part in manifest.parts] == [f"{n:04d}" for n in range(5)]
    assert verify(any_store, manifest) == []
    assert load(any_store, Ref.model_validate("toy@v1")).digest == manifest.digest


def test_cpu_seconds_are_told_where_all_was_made_in_one_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter((10.0, 12.5, 20.0, 20.5))
    monkeypatch.setattr(materialize_module, "_spent", lambda cluster: next(spent))
    run_key = materialize(spec(), store, InlineCluster()).ref.key("run.json")
    assert json.loads(store.read(run_key))["cpu_seconds"] == 2.5
    store.remove("toy/v1/manifest.json")
    materialize(spec(), store, InlineCluster())
    assert "cpu_seconds" not in json.loads(store.read(run_key)), "its parts stood: what is left tells no rate"


def test_flipping_one_byte_of_any_file_is_found_and_named(store: Store) -> None:
    manifest = materialize(spec(), store, InlineCluster())
    for file in manifest.files():
        path = Path(store.path(manifest.key(file)))
        good = path.read_bytes()
        path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        assert len(verify(store, manifest)) == 1
        assert file.name in verify(store, manifest)[0]
        with pytest.raises(ManifestError, match="differs"):
            read_file(store, manifest, file)
        path.unlink()
        assert "is missing" in verify(store, manifest)[0]
        path.write_bytes(good)


def test_twice_is_once(store: Store) -> None:
    first = materialize(spec(), store, InlineCluster())
    before = {key: Path(store.path(key)).stat().st_mtime_ns for key in sorted(store.keys())}
    assert materialize(spec(), store, InlineCluster()).digest == first.digest
    assert {key: Path(store.path(key)).stat().st_mtime_ns for key in sorted(store.keys())} == before


def test_other_parameters_under_the_same_version_are_refused_with_the_difference(store: Store) -> None:
    materialize(spec(), store, InlineCluster())
    with pytest.raises(Drift, match=r"parameters\.numbers: 5 -> 6") as refusal:
        materialize(spec(numbers=6), store, InlineCluster())
    assert "--version" in str(refusal.value) and "--force" in str(refusal.value)
    assert materialize(spec("v2", numbers=6), store, InlineCluster()).ledger.listed == 60
    assert materialize(spec(numbers=6), store, InlineCluster(), force=True).ledger.listed == 60


def test_a_changed_input_is_drift_too(store: Store) -> None:
    materialize(spec("up"), store, InlineCluster())
    child = spec("v1", inputs=(Ref.model_validate("toy@up"),))
    materialize(child, store, InlineCluster())
    materialize(spec("up", numbers=3), store, InlineCluster(), force=True)
    with pytest.raises(Drift, match=r"inputs\.toy"):
        materialize(child, store, InlineCluster())


def test_a_missing_input_names_what_stands(store: Store) -> None:
    materialize(spec("up"), store, InlineCluster())
    with pytest.raises(ManifestError, match="finished versions: up"):
        materialize(spec("v1", inputs=(Ref.model_validate("toy@other"),)), store, InlineCluster())


def test_a_lost_row_commits_nothing(store: Store) -> None:
    with pytest.raises(LedgerError, match="does not close"):
        materialize(spec(lose_a_row=True), store, InlineCluster())
    assert find(store, Ref.model_validate("toy@v1")) is None


def test_after_a_failure_finished_parts_are_found_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    broken = {3}
    whole = make_part

    def flaky(number: int, output: Output, lose: bool) -> Part:
        calls.append(number)
        if number in broken:
            raise RuntimeError("power cut")
        return whole(number, output, lose)

    monkeypatch.setitem(run.__globals__, "make_part", flaky)
    with pytest.raises(RuntimeError, match="power cut"):
        materialize(spec(), store, InlineCluster())
    assert find(store, Ref.model_validate("toy@v1")) is None
    broken.clear()
    calls.clear()
    resumed = materialize(spec(), store, InlineCluster())
    assert calls == [3, 4]
    fresh = materialize(spec("v2"), store, InlineCluster())
    assert [p.files for p in resumed.parts] == [p.files for p in fresh.parts]


def test_every_cluster_gives_the_same_manifest(any_cluster: Cluster, tmp_path: Path) -> None:
    here = materialize(spec(), Store(str(tmp_path / "a")), InlineCluster())
    there = materialize(spec(), Store(str(tmp_path / "b")), any_cluster)
    assert here.digest == there.digest


def test_the_resolved_parameters_lie_beside_the_output(store: Store) -> None:
    materialize(spec(), store, InlineCluster())
    assert json.loads(store.read("toy/v1/recipe.json"))["parameters"]["numbers"] == 5


def test_difference_is_empty_only_for_equal_values() -> None:
    assert difference({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert difference({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3}) == ["a.b: 1 -> 2", "c: (absent) -> 3"]


@pytest.mark.parametrize("text", ["../x@v1", "toy@..", "toy@../v", "Toy@v1", "toy", "toy@v/1", "toy@"])
def test_references_cannot_leave_the_store(text: str) -> None:
    with pytest.raises(ValueError):
        Ref.model_validate(text)
