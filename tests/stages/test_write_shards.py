"""Shards hold what was kept, mixed and byte-identical however they were made, with an index that tells the truth."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from shard_world import SOURCES, hashes, inputs, kept_rows, make_world, write

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.batches import ShardedSamples
from stages.manifest import Manifest, ManifestError, load, sealed, verify
from stages.ref import Ref
from stages.shard_index import cuts
from stages.tars import BLOCK, read_tar, tar_bytes
from stages.workspace import read_file, read_table
from stages.write_shards import Parameters, PartName, blocks, place

PARTS: list[PartName] = [(source, f"{number}") for source in ("a", "b") for number in range(40)]


@pytest.fixture
def shards(store: Store) -> Manifest:
    make_world(store)
    return write(store)


def samples(store: Store, shards: Manifest) -> list[tuple[str, dict[str, bytes]]]:
    return [each for part in shards.parts for each in read_tar(read_file(store, shards, part.files["tar"]))]


def test_blocks_hold_every_part_once_mix_sources_and_do_not_ask_for_an_order() -> None:
    parameters = Parameters(policy="clean", parts_per_block=16)
    made = blocks(PARTS, parameters)
    assert sorted(part for block in made for part in block) == sorted(PARTS)
    assert all(len(block) == 16 and {source for source, _ in block} == {"a", "b"} for block in made)
    assert blocks(PARTS[::-1], parameters) == made
    assert blocks(PARTS, parameters.model_copy(update={"seed": 1})) != made


def test_cuts_by_rows_and_by_bytes() -> None:
    assert list(cuts([5] * 7, 3, 100)) == [(0, 3), (3, 6), (6, 7)]
    assert list(cuts([5] * 7, 99, 14)) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert list(cuts([50, 1, 1, 50], 99, 10)) == [(0, 1), (1, 3), (3, 4)], "too large a sample has a shard alone"
    assert list(cuts([], 3, 10)) == []


def test_shards_hold_what_was_kept_unchanged(store: Store, shards: Manifest) -> None:
    found = dict(samples(store, shards))
    assert shards.ledger.kept == len(found) == len(kept_rows())
    assert shards.ledger.rejected == shards.ledger.listed - len(found) > 0
    assert shards.totals["per_source"] == {source: len(found) // 2 for source in SOURCES}
    for row in kept_rows():
        members = found[row["uid"].hex()]
        assert list(members) == ["jpg", "txt", "json"]
        assert (members["jpg"], members["txt"].decode()) == (row["jpg"], row["caption"])
        facts = {name: row[name] for name in ("source", "language", "caption")}
        assert json.loads(members["json"]) == {"uid": row["uid"].hex(), **facts}
    assert not verify(store, shards)


def test_inside_a_block_samples_are_ordered_by_hash_so_sources_mix(store: Store, shards: Manifest) -> None:
    by_block: dict[str, list[str]] = {}
    for part in shards.parts:
        keys = [key for key, _ in read_tar(read_file(store, shards, part.files["tar"]))]
        by_block.setdefault(part.key[:6], []).extend(keys)
        assert len(keys) <= 7
    assert len(by_block) == 3
    for keys in by_block.values():
        assert keys == sorted(keys, key=lambda key: place(0, key))
    mixed = write(store, "mixed", parts_per_block=32, rows_per_shard=27)
    assert [set(part.facts["per_source"]) for part in mixed.parts] == [set(SOURCES)] * 2


def test_shards_by_bytes(store: Store) -> None:
    make_world(store)
    made = write(store, rows_per_shard=1000, bytes_per_shard=10 * BLOCK * 3)
    for part in made.parts:
        table = read_table(store, made, part, "index")
        assert sum(table["bytes"].to_pylist()) <= 10 * BLOCK * 3 or table.num_rows == 1
    assert made.ledger.kept == len(kept_rows()) and len(made.parts) > 10


def test_the_index_tells_where_everything_lies(store: Store, shards: Manifest) -> None:
    known = {row["uid"]: row for row in kept_rows()}
    for part in shards.parts:
        data = read_file(store, shards, part.files["tar"])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            infos = {info.name: info for info in tar}
        for entry in read_table(store, shards, part, "index").to_pylist():
            row = known[entry["uid"]]
            for suffix in ("jpg", "txt", "json"):
                info = infos[f"{entry['uid'].hex()}.{suffix}"]
                assert (entry[f"{suffix}_offset"], entry[f"{suffix}_bytes"]) == (info.offset_data, info.size)
            assert entry["sha256"] == hashlib.sha256(row["jpg"]).digest()
            stretch = data[entry["offset"] : entry["offset"] + entry["bytes"]]
            assert entry["sample_sha256"] == hashlib.sha256(stretch).digest()
            for name in ("source", "language", "url_id", "host", "phash"):
                assert entry[name] == row[name]
            assert entry["body_sha256"].hex() == row["body_sha256"]


def test_bytes_do_not_depend_on_workers_or_on_the_order_of_parts(
    store: Store, any_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_bytes_there(store, Store(store.root + "-there"), any_cluster, monkeypatch)


def test_bytes_do_not_depend_on_the_kind_of_store(
    store: Store, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_bytes_there(store, s3_store, InlineCluster(), monkeypatch)


def same_bytes_there(here: Store, there: Store, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    make_world(here)
    make_world(there)
    one = write(here)
    monkeypatch.setattr("stages.workspace.LIGHT_SECONDS", 0.0)  # what is light would never reach the workers
    other = write(there, cluster=cluster, refs=inputs()[::-1])
    assert other.digest == one.digest and hashes(other) == hashes(one)


class Backwards:
    """A cluster that ends last what began first."""

    cpu_seconds_elsewhere = 0.0

    def map(self, work: Callable[[Any], Any], items: list[Any], **_: Any) -> list[Any]:
        return [work(item) for item in reversed(items)]


def test_bytes_do_not_depend_on_what_ends_first(
    store: Store, shards: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.workspace.LIGHT_SECONDS", 0.0)
    again = write(store, "again", cluster=Backwards())  # type: ignore[arg-type]
    assert hashes(again) == hashes(shards)


def test_one_sample_is_in_memory_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_world(store)
    reads: list[int] = []
    read, read_range = Store.read, Store.read_range

    def whole(self: Store, key: str) -> bytes:
        assert not key.endswith(".tar"), "a whole picture file was read into memory"
        return read(self, key)

    def piece(self: Store, key: str, start: int, stop: int) -> bytes:
        reads.append(stop - start)
        return read_range(self, key, start, stop)

    monkeypatch.setattr(Store, "read", whole)
    monkeypatch.setattr(Store, "read_range", piece)
    write(store, rows_per_shard=1000)
    assert sum(reads) > 100_000 / 2 and max(reads) < sum(reads) / 10


def test_a_pool_of_an_earlier_version_leaves_gaps_in_the_index_and_no_more(store: Store) -> None:
    make_world(store, current=False)
    made = write(store)
    table = read_table(store, made, made.parts[0], "index")
    assert {table[name].null_count for name in ("url_id", "host", "phash", "body_sha256")} == {table.num_rows}
    assert made.ledger.kept == len(kept_rows())


def test_readers_of_training_find_every_sample(store: Store, shards: Manifest, tmp_path: Any) -> None:
    found = ShardedSamples(store, shards, tmp_path / "copy")
    expected = samples(store, shards)
    assert found.keys == [key for key, _ in expected]
    assert [found.read(number, "jpg") for number in range(len(found))] == [m["jpg"] for _, m in expected]
    assert found.facts(3) == json.loads(expected[3][1]["json"])


def pool_of(store: Store) -> Manifest:
    return load(store, Ref(name="pool/cc3m", version="v1"))


def test_damage_and_gaps_in_the_pool_are_named(store: Store) -> None:
    make_world(store)
    pool = pool_of(store)
    key = pool.key(pool.parts[0].files["pictures"])
    good = store.read(key)
    middle = len(good) // 2 // BLOCK * BLOCK
    for bad in (good[:middle], good[:1000] + bytes([good[1000] ^ 1]) + good[1001:]):
        store.write(key, bad)
        with pytest.raises(ManifestError, match=r"pool/cc3m/v1/parts/000000-[0-9a-f]+\.tar"):
            write(store)
    store.write(key, good)
    assert write(store).ledger.kept == len(kept_rows())


def test_a_kept_sample_that_the_pool_does_not_hold_is_named(store: Store) -> None:
    make_world(store)
    pool = pool_of(store)
    picture, rest = pool.parts[0].files["pictures"], pool.parts[1:]
    empty = tar_bytes([])
    file = picture.model_copy(update={"sha256": hashlib.sha256(empty).hexdigest(), "bytes": len(empty)})
    part = pool.parts[0].model_copy(update={"files": {**pool.parts[0].files, "pictures": file}})
    store.write(pool.key(file), empty)
    changed = pool.model_copy(update={"parts": (part, *rest)})
    store.write("pool/cc3m/v1/manifest.json", sealed(changed.model_dump(mode="json")))
    first = min(row["uid"] for row in kept_rows() if (row["source"], row["part"]) == ("cc3m", part.key))
    with pytest.raises(ManifestError, match=f"sample {first.hex()} was kept but its picture is not in the pool"):
        write(store)


def test_a_plan_that_no_longer_fits_the_pool_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_world(store)
    pool = pool_of(store)
    key = pool.key(pool.parts[0].files["pictures"])
    read_range = Store.read_range

    def rotten(self: Store, asked: str, start: int, stop: int) -> bytes:
        data = read_range(self, asked, start, stop)
        return data[:-600] + bytes([data[-600] ^ 1]) + data[-599:] if asked == key else data

    monkeypatch.setattr(Store, "read_range", rotten)
    with pytest.raises(ManifestError, match="differs from its index; `internvl verify` lists damage"):
        write(store)
    assert not store.exists("shards/clean/v1/manifest.json")


def test_inputs_that_do_not_belong_together_are_named(store: Store) -> None:
    make_world(store, keep=lambda row: False)
    with pytest.raises(ManifestError, match="kept no row of 72; loosen"):
        write(store)
    with pytest.raises(ManifestError, match="no verdicts of policy 'other'"):
        write(store, policy="other")
    with pytest.raises(ManifestError, match="verdicts of cc3m were given without its pool and signals"):
        write(store, refs=inputs("verdicts/clean", "pool"))


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_world(store)
    create, made = Store.create, list[str]()

    def stops(self: Store, key: str, data: Any) -> bool:
        if "markers/" in key and "plan" not in key:
            made.append(key)
            if len(made) == 4:
                raise KeyboardInterrupt
        return create(self, key, data)

    monkeypatch.setattr(Store, "create", stops)
    with pytest.raises(KeyboardInterrupt):
        write(store)
    monkeypatch.undo()
    again = write(store)
    other = Store(store.root + "-other")
    make_world(other)
    assert again.digest == write(other).digest


def test_the_plan_is_no_part_of_the_artifact(store: Store, shards: Manifest) -> None:
    assert all(set(part.files) == {"tar", "index"} for part in shards.parts)
    table = pq.read_table(io.BytesIO(read_file(store, shards, shards.parts[0].files["index"])))
    assert "tar" not in table.column_names
