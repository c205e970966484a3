"""One bit in any class of file: found, and the file named. Names that climb: refused, whoever sends them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from small_web import small_web, write_list

from infra.cluster import InlineCluster
from infra.storage import StorageError, Store
from stages.manifest import File, Ledger, Manifest, ManifestError, find, load, sealed, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import Output, read_file

LISTING, POOL = Ref(name="listing/own", version="v1"), Ref(name="pool/own", version="v1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with a listing and its pool."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(str(folder / "store"))
    with small_web() as host:
        listed = {"source": "own", "paths": [str(write_list(folder / "list.csv", host, 8))]}
        listed["columns"] = {"url": "url", "caption": "text"}  # type: ignore[assignment]
        fetched = {"image_size": 32, "allow_hosts": [host], "threads": 4}
        for stage, ref, parameters, inputs in (
            ("list_urls", LISTING, listed, ()),
            ("download", POOL, fetched, (LISTING,)),
        ):
            spec = StageSpec(stage=stage, artifact=ref, parameters=parameters, inputs=inputs)
            materialize(spec, store, InlineCluster(), progress=False)
    return store


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("ref", [LISTING, POOL])
def test_one_flipped_bit_of_every_role_is_named_and_refused_by_its_reader(made: Store, ref: Ref) -> None:
    manifest = load(made, ref)
    assert {role for part in manifest.parts for role in part.files} >= (
        {"rows"} if ref == LISTING else {"outcomes", "pictures"}
    )
    for part in manifest.parts:
        for file in part.files.values():
            key, good = manifest.key(file), made.read(manifest.key(file))
            for bit in (0, len(good) * 4 + 3, len(good) * 8 - 1):
                made.write(key, flipped(good, bit))
                (found,) = verify(made, manifest)
                assert found.startswith(f"{key} differs from its manifest")
                with pytest.raises(ManifestError, match=f"{key} differs from its manifest"):
                    read_file(made, manifest, file)
            made.write(key, good)
    assert verify(made, manifest) == []


def test_a_manifest_with_any_flipped_bit_is_refused(made: Store) -> None:
    key = POOL.key("manifest.json")
    good = made.read(key)
    try:
        for bit in range(0, len(good) * 8, 397):
            made.write(key, flipped(good, bit))
            with pytest.raises(ManifestError, match=r"pool/own/v1/manifest\.json cannot be read"):
                load(made, POOL)
    finally:
        made.write(key, good)
    assert verify(made, load(made, POOL)) == []


def test_a_manifest_of_before_there_were_seals_is_read(made: Store) -> None:
    key, manifest = LISTING.key("manifest.json"), load(made, LISTING)
    good = made.read(key)
    made.write(key, json.dumps(manifest.model_dump(mode="json")).encode())
    try:
        assert load(made, LISTING) == manifest
    finally:
        made.write(key, good)


def test_a_manifest_in_the_place_of_another_is_refused(made: Store) -> None:
    made.write("pool/own/v2/manifest.json", made.read(POOL.key("manifest.json")))
    try:
        with pytest.raises(ManifestError, match="it is the manifest of pool/own@v1"):
            find(made, Ref(name="pool/own", version="v2"))
    finally:
        made.remove("pool/own/v2")


def test_a_marker_with_a_flipped_bit_counts_for_nothing(store: Store) -> None:
    output = Output(store=store, ref=POOL, stage="toy", identity={})
    made = output.part("0", "d" * 64, Ledger(listed=2, kept=1, failed=1), {"rows": ("0.bin", b"body")}, {"a": 1})
    (marker,) = store.keys(f"{POOL.folder}/markers")
    good = store.read(marker)
    for bit in range(0, len(good) * 8, 131):
        store.write(marker, flipped(good, bit))
        assert output.done("0", "d" * 64) is None
        assert output.standing([("0", "d" * 64)]) == []
    store.write(marker, good)
    assert output.standing([("0", "d" * 64)]) == [output.done("0", "d" * 64)] == [made]


CLIMBING = ("../x", "/etc/passwd", "a/../../b", "a\0b", "..", "a\nb")


@pytest.mark.parametrize("name", CLIMBING)
def test_artifacts_and_versions_that_climb_are_refused(name: str) -> None:
    for given in ({"name": name, "version": "v1"}, {"name": "pool/x", "version": name}):
        with pytest.raises(ValidationError, match="letters"):
            Ref(**given)
        with pytest.raises(ValidationError):
            StageSpec.model_validate({"stage": "download", "artifact": given, "parameters": {}})


@pytest.mark.parametrize("name", [name for name in CLIMBING if not name.startswith("/")])
def test_part_keys_file_names_and_manifests_that_climb_are_refused(any_store: Store, name: str) -> None:
    output = Output(store=any_store, ref=POOL, stage="toy", identity={})
    ledger = Ledger(listed=1, kept=1)
    for publish in (
        lambda: output.part(f"../{name}", "d" * 64, ledger, {}),
        lambda: output.part("0", "d" * 64, ledger, {"rows": (f"{name}/../../../../x.bin", b"1")}),
        lambda: output.file(f"{name}/../../../x", b"1"),
    ):
        with pytest.raises(StorageError, match="inside the store"):
            publish()
    assert any_store.keys() == []
    hostile = Manifest(
        ref=POOL, stage="toy", identity={}, ledger=ledger, parts=(),
        reports={"page": File(name=f"../../{name}", bytes=1, sha256="0" * 64)},
    )  # fmt: skip
    any_store.write(POOL.key("manifest.json"), sealed(hostile.model_dump(mode="json")))
    with pytest.raises(StorageError, match="inside the store"):
        read_file(any_store, load(any_store, POOL), hostile.reports["page"])


def test_a_spec_outside_the_store_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    command: list[Any] = [sys.executable, "-m", "stages.run", "../spec.json", "--store", str(tmp_path / "store")]
    ended = subprocess.run([*command, "--inline"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "refused: key '../spec.json' does not stay inside the store" in ended.stdout
