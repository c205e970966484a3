"""Which version is read: by name, the newest that is whole, or by the digest of what is read."""

import os
from pathlib import Path

import pytest

from infra.storage import Store
from pipelines.changes import rerun_steps
from pipelines.graph import Step
from pipelines.names import RecipeName
from pipelines.upstream import names_read, reading, version_of
from stages.manifest import Ledger, Manifest, ManifestError
from stages.materialize import StageSpec
from stages.output import Output
from stages.ref import Ref

NAMES = ("signals/coyo", "pool/coyo")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))
    return Store(str(tmp_path / "store"))


def made(store: Store, name: str, version: str, when: float) -> Manifest:
    output = Output(store, Ref(name=name, version=version), "toy", {"when": when})
    manifest = output.commit([output.part("0", "d", Ledger(listed=1, kept=1), {"rows": ("0.bin", b"x")})])
    os.utime(store.path(manifest.ref.key("manifest.json")), (when, when))
    return manifest


def test_the_newest_version_in_which_all_stands_is_the_latest(store: Store) -> None:
    for when, version in ((1000, "new"), (500, "old")):
        for name in NAMES:
            made(store, name, version, when)
    made(store, NAMES[0], "half", 2000)
    assert version_of(store, NAMES, "latest") == "new"
    made(store, NAMES[1], "half", 400)
    assert version_of(store, NAMES, "latest") == "half"


def test_a_digest_is_found_and_must_mean_one_version(store: Store) -> None:
    first, second = (made(store, NAMES[0], version, 1) for version in ("a", "b"))
    assert version_of(store, NAMES, first.digest[:8]) == "a"
    assert version_of(store, NAMES, second.digest) == "b"
    with pytest.raises(ManifestError, match="is named 00000000 or has this digest"):
        version_of(store, NAMES, "00000000")


def test_a_version_is_taken_by_its_name_though_it_looks_like_a_digest(store: Store) -> None:
    made(store, NAMES[0], "deadbeef", 1)
    assert version_of(store, NAMES, "deadbeef") == "deadbeef"
    assert version_of(store, NAMES, "tiny") == "tiny"


def test_where_nothing_is_finished_nothing_is_the_latest(store: Store) -> None:
    with pytest.raises(ManifestError, match="no version has all of signals/coyo, pool/coyo; run the stage"):
        version_of(store, NAMES, "latest")


def test_what_a_stage_reads(store: Store) -> None:
    assert names_read(RecipeName.TINY, "filter", ["coyo"]) == ["signals/coyo", "pool/coyo"]
    assert names_read(RecipeName.TINY, "list_urls", ["coyo"]) == ["listing/coyo"]


def test_a_rerun_starts_from_the_latest(store: Store) -> None:
    for name in NAMES:
        made(store, name, "mine", 1)
    steps = rerun_steps("filter", RecipeName.TINY, ["coyo"], [], "latest", new_version="strict")
    read = {str(ref) for step in steps for ref in step.spec.inputs}
    assert {"signals/coyo@mine", "pool/coyo@mine", "verdicts/clean/coyo@strict"} == read


def test_a_training_reads_the_shards_that_are_named(store: Store) -> None:
    made(store, "shards/clean", "data7", 1)

    def step(name: str, *inputs: str) -> Step:
        refs = tuple(Ref(name=each, version="run1") for each in inputs)
        return Step(name, StageSpec(stage=name, artifact=Ref(name=name, version="run1"), parameters={}, inputs=refs))

    language, contrastive = reading([step("a"), step("b", "shards/clean", "a")], store, "latest")
    assert language.spec.inputs == ()
    assert [str(ref) for ref in contrastive.spec.inputs] == ["shards/clean@data7", "a@run1"]
