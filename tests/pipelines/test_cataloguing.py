"""`internvl checkpoints`: what is listed, what a promoted name means, and what is refused."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.cluster import InlineCluster
from infra.storage import StorageError, Store
from pipelines.cli import app
from stages import aliases
from stages.catalogue import checkpoints
from stages.checkpoints import publish
from stages.manifest import Manifest, ManifestError, load
from stages.materialize import StageSpec, identity_of, materialize
from stages.ref import Ref
from stages.workspace import Output

NAME = "checkpoints/contrastive"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Store(str(tmp_path / "home" / "store"))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["checkpoints", *words])


def said(result: Result) -> str:
    return " ".join("".join(" " if letter in "│┃" else letter for letter in result.output).split())


def make(store: Store, version: str, name: str = NAME, weights: bytes = b"w") -> Manifest:
    shards = "b" * 64
    output = Output(store, Ref(name=name, version=version), name.split("/")[1], {"inputs": {"shards/clean": shards}})
    facts = {
        "metrics": {"steps": 400, "r1": 0.3712, "last_loss": 1.25},
        "inputs": {"shards/clean": {"ref": "shards/clean@v7", "digest": shards}},
        "parameters": 1234567,
    }
    return output.commit([publish(output, "d" * 64, {"model": ("model.safetensors", weights)}, 10, facts)])


def training(store: Store, version: str, *states: str) -> None:
    for state in states:
        store.write(f"{NAME}/{version}/state/abc-def/{state}/state.json", b"{}")


def test_all_versions_are_listed_with_what_they_are_made_from(store: Store) -> None:
    make(store, "tiny")
    make(store, "other", "checkpoints/generative")
    training(store, "running", "000009-step-00000040", "000010-step-00000030")
    everything = said(call())
    assert "checkpoints/contrastive@tiny 400 1,234,567" in everything
    assert "shards/clean@v7" in everything and "r1 0.3712" in everything
    assert checkpoints(store)[1].data == {"shards/clean": f"shards/clean@v7 {'b' * 12}"}
    assert "checkpoints/contrastive@running 30 " in everything
    assert re.search(r"training; state of [\d.]+ (s|min) ago", everything)
    one = said(call("--stage", "generative"))
    assert "generative@other" in one and "contrastive" not in one
    by_recipe = said(call("--recipe", "tiny"))
    assert "contrastive@tiny" in by_recipe and "@other" not in by_recipe and "@running" not in by_recipe


def test_a_state_is_never_of_the_future(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    training(store, "running", "000001-step-00000003")
    monkeypatch.setattr(Store, "now", lambda self: 0.0)
    (row,) = checkpoints(store)
    assert row.age_seconds == 0.0


def test_nothing_to_list_names_the_next_move() -> None:
    result = call()
    assert result.exit_code == 2 and "internvl run train" in said(result)


def test_a_promoted_name_means_the_version_wherever_a_reference_is_taken(store: Store) -> None:
    first, second = make(store, "one"), make(store, "two", weights=b"x")
    assert call("promote", f"{NAME}@one").exit_code == 0
    promoted = Ref(name=NAME, version="promoted")
    assert load(store, promoted) == first
    assert "before one" in said(call("promote", f"{NAME}@two"))
    assert load(store, promoted) == second
    shown = CliRunner().invoke(app, ["show", f"{NAME}@promoted"])
    assert shown.exit_code == 0 and f"{NAME}@two" in shown.output
    spec = StageSpec(
        stage="export",
        artifact=Ref(name="exports/contrastive", version="x"),
        parameters={"kind": "contrastive"},
        inputs=(promoted,),
    )
    assert identity_of(spec, store)["inputs"] == {NAME: second.digest}, "a result depends on what it meant then"
    assert [line.split()[3] for line in call("history", f"{NAME}@promoted").output.splitlines()] == ["two", "one"]
    assert {row.ref.version: row.aliases for row in checkpoints(store)} == {"one": (), "two": ("promoted",)}
    assert "= @promoted" in said(call())


def test_names_of_ones_own(store: Store) -> None:
    manifest = make(store, "one")
    assert call("promote", f"{NAME}@one", "--name", "best").exit_code == 0
    assert call("promote", f"{NAME}@best", "--name", "demo").exit_code == 0, "of an alias too"
    assert load(store, Ref(name=NAME, version="demo")) == manifest
    make(store, "two")
    assert "a version is called" in said(call("promote", f"{NAME}@one", "--name", "two"))


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("shards/clean@one", "no checkpoint"),
        (f"{NAME}@none", "finished versions: one"),
        ("nonsense", "write it as name@version"),
    ],
)
def test_what_cannot_be_promoted(store: Store, ref: str, words: str) -> None:
    make(store, "one")
    result = call("promote", ref)
    assert result.exit_code == 2 and words in said(result)
    assert store.keys(f"{NAME}/aliases") == []


def test_a_version_that_was_made_anew_is_not_what_was_promoted(store: Store) -> None:
    make(store, "one")
    call("promote", f"{NAME}@one")
    store.remove(f"{NAME}/one/manifest.json")
    with pytest.raises(ManifestError, match="is not there any more; look at it, then: internvl checkpoints promote"):
        load(store, Ref(name=NAME, version="promoted"))
    store.remove(f"{NAME}/one/markers")
    make(store, "one", weights=b"other")
    with pytest.raises(ManifestError, match="was made anew since"):
        load(store, Ref(name=NAME, version="promoted"))


def test_of_two_promotions_at_once_one_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = Ref(name=NAME, version="promoted")
    real = aliases.promotions

    def meanwhile(store: Store, wanted: Ref) -> list[aliases.Promotion]:
        found = real(store, wanted)
        monkeypatch.setattr(aliases, "promotions", real)
        aliases.promote(store, alias, "theirs", "d" * 64)
        return found

    monkeypatch.setattr(aliases, "promotions", meanwhile)
    with pytest.raises(StorageError, match="somebody else just now"):
        aliases.promote(store, alias, "ours", "e" * 64)
    assert [each.version for each in real(store, alias)] == ["theirs"]


def test_no_stage_writes_under_a_promoted_name(store: Store) -> None:
    make(store, "one")
    call("promote", f"{NAME}@one")
    spec = StageSpec(stage="contrastive", artifact=Ref(name=NAME, version="promoted"), parameters={})
    with pytest.raises(ManifestError, match="is a promoted name"):
        materialize(spec, store, InlineCluster())


def test_a_torn_promotion_is_named_wherever_it_is_read_and_its_removal_helps(store: Store) -> None:
    make(store, "one")
    for _ in range(3):
        call("promote", f"{NAME}@one")
    key, alias = f"{NAME}/aliases/promoted/000003.json", Ref(name=NAME, version="promoted")
    store.write(key, json.dumps({"alias": "promoted"}).encode())
    spec = StageSpec(stage="contrastive", artifact=alias, parameters={})
    for read in (
        lambda: load(store, alias),
        lambda: materialize(spec, store, InlineCluster()),
        lambda: checkpoints(store),
        lambda: aliases.promote(store, alias, "one", "d" * 64),
    ):
        with pytest.raises(ManifestError, match=f"{key} cannot be read"):
            read()
    store.write(key, store.read(f"{NAME}/aliases/promoted/000002.json"))
    store.remove(f"{NAME}/aliases/promoted/000002.json")
    assert call("promote", f"{NAME}@one").exit_code == 0, "also where it was none of the newest"
    assert [each.rpartition("/")[2][:6] for each in store.keys(f"{NAME}/aliases")] == ["000001", "000003", "000004"]
