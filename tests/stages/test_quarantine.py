"""A part that cannot be made is tried, left out and listed; a rerun makes it alone; too many end the stage."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judged_store import policy_of, store_signals

from infra.cluster import InlineCluster
from infra.storage import StorageError, Store
from stages.manifest import Ledger, Manifest, ManifestError, Part, find, load, verify
from stages.materialize import StageSpec, lacks_parts, materialize
from stages.quarantine import QUARANTINED
from stages.ref import Ref
from stages.workspace import Output, Placement, Workspace

TRIES = Counter[str]()


def make(item: tuple[str, str, int], output: Output, error: Exception, ill: dict[str, int]) -> Part:
    """Make a part, unless it is ill for so many tries."""
    key, digest, rows = item
    TRIES[key] += 1
    if TRIES[key] <= ill.get(key, 0):
        raise error
    return output.part(key, digest, Ledger(listed=rows, kept=rows), {"x": (f"{key}.bin", key.encode())})


def run(
    store: Store, tmp_path: Path, ill: dict[str, int], share: float, error: Exception | None = None
) -> tuple[Output, Workspace, list[Part]]:
    TRIES.clear()
    output = Output(store, Ref(name="toy", version="v1"), "toy", {})
    here = Workspace(store, InlineCluster(), tmp_path, placement=Placement(max_quarantined_share=share))
    items = [(str(n), "d", (str(n), "d", 10 + n)) for n in range(4)]

    def work(item: tuple[str, str, int]) -> Part:
        return make(item, output, error or ValueError("at 10.0.0.7"), ill)

    return output, here, here.map_parts(output, work, items, rows=lambda item: item[2])


def test_a_part_that_fails_at_every_try_is_left_out_and_its_rows_fail(store: Store, tmp_path: Path) -> None:
    output, here, parts = run(store, tmp_path, {"2": 9}, share=0.25)
    manifest = output.commit(parts, totals={"other": 1}, quarantined=here.quarantined)
    assert TRIES["2"] == 3 and TRIES["1"] == 1
    assert [part.key for part in manifest.parts] == ["0", "1", "3"]
    assert manifest.totals == {"other": 1, QUARANTINED: [{"part": "2", "rows": 12, "reason": "ValueError"}]}
    assert manifest.ledger == Ledger(listed=46, kept=34, failed=12)
    assert verify(store, manifest) == []


def test_a_part_that_fails_now_and_then_is_made(store: Store, tmp_path: Path) -> None:
    output, here, parts = run(store, tmp_path, {"0": 2}, share=0.25)
    assert here.quarantined == []
    assert QUARANTINED not in output.commit(parts, quarantined=here.quarantined).totals


def test_more_than_the_share_end_the_stage(store: Store, tmp_path: Path) -> None:
    says = r"2 of 4 parts could not be made, more than max_quarantined_share 0\.25: 1 \(ValueError\), 2"
    with pytest.raises(ManifestError, match=says):
        run(store, tmp_path, {"1": 9, "2": 9}, share=0.25)


def test_by_default_the_first_error_ends_the_stage_as_it_is(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.7"):
        run(store, tmp_path, {"1": 9}, share=0.0)
    assert TRIES["1"] == 1


def test_a_store_that_fails_is_no_fault_of_a_part(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="full"):
        run(store, tmp_path, {"1": 9}, share=1.0, error=StorageError("the disk is full"))


@pytest.mark.parametrize("given", [{"part_tries": 0}, {"max_quarantined_share": 1.5}])
def test_a_placement_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=r"part_tries .* must be at least 1, and max_quarantined_share"):
        Placement(**given)


def judge(store: Store, policy: str, share: float, force: bool = False) -> Manifest:
    before = ["verdicts/clean/coyo"] if policy != "clean" else []
    spec = StageSpec(
        stage="filter",
        artifact=Ref(name=f"verdicts/{policy}/coyo", version="v1"),
        parameters={"source": "coyo", "policy": policy_of(policy, "coyo").model_dump(mode="json")},
        inputs=tuple(Ref(name=name, version="v1") for name in ("signals/coyo", "pool/coyo", *before)),
        placement={"max_quarantined_share": share, "part_tries": 1},
    )
    if force:
        assert lacks_parts(spec, store)
    return materialize(spec, store, InlineCluster(), force=force, progress=False)


def test_filters_go_on_without_a_damaged_part_and_a_rerun_makes_it_alone(tmp_path: Path) -> None:
    store, whole = Store(str(tmp_path / "ill")), Store(str(tmp_path / "whole"))
    for each in (store, whole):
        store_signals(each, "coyo", "v1")
    signals = load(store, Ref(name="signals/coyo", version="v1"))
    key = signals.key(signals.parts[1].files["clip_similarity"])
    healthy = store.read(key)
    store.write(key, healthy[:-1] + bytes([healthy[-1] ^ 1]))
    with pytest.raises(ManifestError, match="differs from its manifest"):
        judge(store, "clean", share=0.0)
    light = judge(store, "clean", share=0.5)
    strict = judge(store, "caption_quality", share=0.5)
    assert [part.key for part in strict.parts] == ["000000", "000002"]
    assert light.totals[QUARANTINED] == [{"part": "000001", "rows": 120, "reason": "ManifestError"}]
    assert QUARANTINED not in strict.totals, "what the light step never judged, the strict one does not lose"
    store.write(key, healthy)
    markers = store.keys(f"{light.ref.folder}/markers")
    again = judge(store, "clean", share=0.5, force=True)
    assert set(markers) < set(store.keys(f"{light.ref.folder}/markers")), "the others were found"
    assert again.digest == judge(whole, "clean", share=0.0).digest
    assert find(store, light.ref) == again
