"""A takedown finds exactly the shards that hold what is named, writes only these again, and is never undone."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from shard_world import derive, hashes, kept_rows, make_world, write

from infra.storage import Store
from stages.manifest import Manifest, ManifestError, verify
from stages.shard_index import read_index
from stages.takedown import find_hits
from stages.takedown_list import Takedown, read_list, register, registered
from stages.tars import read_tar
from stages.workspace import read_file


@pytest.fixture
def shards(store: Store) -> Manifest:
    make_world(store)
    return write(store)


def uids_of(store: Store, shards: Manifest) -> dict[str, list[bytes]]:
    return {part.key: read_index(store, shards, part)["uid"].to_pylist() for part in shards.parts}


def take(store: Store, *lines: str, version: str = "less", of: str = "v1") -> Manifest:
    path = Path(store.root).parent / "list.txt"
    path.write_text("\n".join(lines))
    register(store, read_list(str(path)))
    return derive(store, "takedown", version, of=of, lists=registered(store))


def named(row: dict[str, Any]) -> dict[str, str]:
    """Return how a list may name a row, by kind."""
    return {
        "uid": row["uid"].hex(),
        "url": row["url"],
        "sha256": hashlib.sha256(row["jpg"]).hexdigest(),
        "phash": f"phash:{row['phash']:016x}",
    }


@pytest.mark.parametrize("kind", ["uid", "url", "sha256", "phash"])
def test_exactly_the_shards_with_hits_change(store: Store, shards: Manifest, kind: str) -> None:
    before = uids_of(store, shards)
    row = kept_rows()[5]
    (hit,) = [key for key, uids in before.items() if row["uid"] in uids]
    made = take(store, named(row)[kind])
    old, new = hashes(shards), hashes(made)
    assert {key for key in old if old[key] != new[key]} == {hit}
    left = [key for key, _ in read_tar(read_file(store, made, part_of(made, hit).files["tar"]))]
    assert left == [uid.hex() for uid in before[hit] if uid != row["uid"]]
    assert uids_of(store, made)[hit] == [bytes.fromhex(key) for key in left]
    assert made.totals["taken_down"] == {"lists": 1, "rows": {kind: 1}}
    assert made.ledger.rejected == 1 and made.ledger.kept == shards.ledger.kept - 1
    assert made.totals["per_source"][row["source"]] == shards.totals["per_source"][row["source"]] - 1
    assert not verify(store, made)


def part_of(manifest: Manifest, key: str) -> Any:
    return next(part for part in manifest.parts if part.key == key)


def test_hits_are_found_without_opening_an_archive(store: Store, shards: Manifest) -> None:
    rows = kept_rows()[:9:4]
    before = uids_of(store, shards)
    for part in shards.parts:
        store.remove(shards.key(part.files["tar"]))
    found = list(find_hits(store, shards, Takedown({"uid": frozenset(row["uid"] for row in rows)})))
    expected = {key: sum(row["uid"] in uids for row in rows) for key, uids in before.items()}
    assert {each.part.key: each.counts["uid"] for each in found} == {key: n for key, n in expected.items() if n}


def test_a_whole_domain_goes_and_with_it_shards_that_held_nothing_else(store: Store) -> None:
    few = {row["uid"] for row in kept_rows() if row["source"] == "cc3m"}
    few = set(sorted(few)[:9])
    make_world(store, keep=lambda row: row["uid"] in few)
    write(store, rows_per_shard=1)
    made = take(store, "img.cc3m.example.com")
    gone = {row["uid"] for row in kept_rows() if "//img.cc3m." in row["url"]} & few
    assert made.totals["taken_down"]["rows"] == {"domain": len(gone)} and 0 < len(gone) < len(few)
    assert len(made.parts) == len(few - gone) == made.ledger.kept
    assert {uid for uids in uids_of(store, made).values() for uid in uids} == few - gone
    with pytest.raises(ManifestError, match="every sample of shards/clean@less is taken down"):
        take(store, "example.com", of="less", version="none")


def test_later_writes_never_bring_them_back(store: Store, shards: Manifest, tmp_path: Path) -> None:
    row = kept_rows()[5]
    made = take(store, row["url"])
    assert derive(store, "takedown", "less", lists=registered(store)).digest == made.digest
    written, cut = write(store, "later"), derive(store, "reshard", "cut")
    assert hashes(written) == hashes(cut)
    for manifest in (written, cut, derive(store, "reshard", "recut", of="less")):
        assert row["uid"] not in {uid for uids in uids_of(store, manifest).values() for uid in uids}
        assert manifest.ledger.kept == shards.ledger.kept - 1
    assert written.totals["taken_down"] == {"lists": 1, "rows": {"url": 1}}
    assert row["url"] not in written.model_dump_json() + made.model_dump_json()
    assert hashes(derive(store, "reshard", "again", of="less")) == hashes(written)


def test_a_part_that_stood_before_a_takedown_is_not_taken_up_again(store: Store, shards: Manifest) -> None:
    """A run that was stopped left its parts; what was named since must not come in with them."""
    row = kept_rows()[5]
    register(store, Takedown({"uid": frozenset({row["uid"]})}))
    store.remove("shards/clean/v1/manifest.json")
    assert write(store).ledger.kept == shards.ledger.kept - 1
    derive(store, "reshard", "cut")
    register(store, Takedown({"uid": frozenset({kept_rows()[6]["uid"]})}))
    store.remove("shards/clean/cut/manifest.json")
    assert derive(store, "reshard", "cut").ledger.kept == shards.ledger.kept - 2


def test_a_shard_that_is_copied_must_be_what_its_manifest_says(store: Store, shards: Manifest) -> None:
    row = kept_rows()[5]
    unhit = next(
        part for part in shards.parts if row["uid"] not in read_index(store, shards, part)["uid"].to_pylist()
    )
    key = shards.key(unhit.files["tar"])
    store.write(key, store.read(key)[:-1] + b"x")
    with pytest.raises(ManifestError, match=r"parts/.*\.tar differs from its manifest; make shards/clean@v1 again"):
        take(store, row["uid"].hex())
    assert not store.exists("shards/clean/less/manifest.json")


def test_shards_that_cannot_answer_are_refused_not_passed_over(store: Store) -> None:
    make_world(store, current=False)
    write(store)
    with pytest.raises(ManifestError, match=r"does not know the phash of \d+ samples: their pool .* make it"):
        take(store, "0123456789abcdef")
    with pytest.raises(ManifestError, match=r"pool/\w+@v1 part 00000\d does not know the phash"):
        write(store, "later")


def test_on_an_object_store_the_same_bytes(s3_store: Store, store: Store) -> None:
    lists = Takedown({"url": frozenset({kept_rows()[5]["url_id"]})})
    made = []
    for each in (store, s3_store):
        make_world(each)
        write(each, parts_per_block=6, rows_per_shard=20)
        register(each, lists)
        made.append(
            [hashes(derive(each, "takedown", "less", lists=registered(each))), hashes(derive(each, "reshard", "cut"))]
        )
    assert made[0] == made[1]
