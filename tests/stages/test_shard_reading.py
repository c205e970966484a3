"""Samples by number: copied or read by range the same, a cache that stays small, and damage that is noticed."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from training_data import members

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import shard_reading
from stages.batches import ShardedSamples, open_samples
from stages.held_out import by_shard, divide, fingerprint
from stages.manifest import Ledger, Manifest, ManifestError
from stages.ref import Ref
from stages.shard_index import INDEX
from stages.shard_reading import OnCorrupt
from stages.tars import MEMBERS, samples_of, tar_bytes
from stages.training.order import Order, Source
from stages.workspace import Output, Placement, Workspace, parquet_bytes

SAMPLES, PER_SHARD = 24, 8
EXPECTED = [members(number) for number in range(SAMPLES)]


def indexed(tar: bytes, hashes: bool = True) -> pa.Table:
    rows = []
    for sample in samples_of(io.BytesIO(tar)):
        row: dict[str, Any] = {"uid": bytes.fromhex(sample.key), "offset": sample.offset, "bytes": len(sample.raw)}
        row["sample_sha256"] = hashlib.sha256(sample.raw).digest()
        row["sha256"] = hashlib.sha256(sample.members["jpg"].data).digest() if hashes else None
        for suffix in MEMBERS:
            row |= {f"{suffix}_offset": sample.members[suffix].offset}
            row |= {f"{suffix}_bytes": len(sample.members[suffix].data)}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=INDEX)


def publish(store: Store, with_index: bool = True, cut: int | None = None, hashes: bool = True) -> Manifest:
    """Publish shards of drawn samples, as stages/write_shards.py lays them out."""
    output = Output(store, Ref(name="shards/clean", version="t"), "write_shards", {"cut": cut})
    parts = []
    for number in range(SAMPLES // PER_SHARD):
        tar = tar_bytes(EXPECTED[number * PER_SHARD : (number + 1) * PER_SHARD])
        index = parquet_bytes(indexed(tar, hashes))
        files: dict[str, tuple[str, bytes | Path]] = {"tar": (f"{number:06d}.tar", tar[:cut])}
        if with_index:
            files["index"] = (f"{number:06d}.parquet", index)
        parts.append(output.part(f"{number:06d}", f"{number}", Ledger(listed=PER_SHARD, kept=PER_SHARD), files))
    return output.commit(parts)


def check(samples: ShardedSamples, expected: list[tuple[str, dict[str, bytes]]]) -> None:
    assert samples.keys == [key for key, _ in expected] and len(samples) == len(expected)
    for number, (_, found) in enumerate(expected):
        assert {suffix: samples.read(number, suffix) for suffix in MEMBERS} == found
    pictures = [fingerprint(found["jpg"]) for _, found in expected]
    assert samples.fingerprints.tolist() == [[each, each] for each in pictures]


def damage(store: Store, shards: Manifest, shard: int, at: int) -> None:
    key = shards.key(shards.parts[shard].files["tar"])
    data = bytearray(store.read(key))
    data[at] ^= 1
    store.write(key, bytes(data))


def test_copies_and_ranges_give_the_same_on_disk_and_s3(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = publish(any_store)
    check(ShardedSamples(any_store, shards, tmp_path / "copies"), EXPECTED)
    monkeypatch.setattr(shard_reading, "BLOCK_BYTES", 9000)
    ranged = ShardedSamples(any_store, shards, tmp_path / "ranges", cache_bytes=1 << 20)
    assert not list((tmp_path / "ranges").iterdir()), "nothing is read before it is asked for"
    check(ranged, EXPECTED)
    assert len(list((tmp_path / "ranges").iterdir())) > len(shards.parts), "several blocks per shard"
    assert ranged.sizes == [PER_SHARD] * 3 and ranged.facts(9)["uid"] == EXPECTED[9][0]


def test_an_index_that_does_not_know_the_pictures_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"shard 000000 of shards/clean@t does not tell the hash.*write it again"):
        ShardedSamples(store, publish(store, hashes=False), tmp_path, cache_bytes=1 << 20)


def test_the_cache_stays_small_and_a_window_reads_each_shard_about_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = publish(store)
    size = max(part.files["tar"].bytes for part in shards.parts)
    asked: list[int] = []
    read_range = Store.read_range

    def counted(self: Store, key: str, start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return read_range(self, key, start, stop)

    monkeypatch.setattr(Store, "read_range", counted)
    taken = {}
    for window in (1, 0):
        folder = tmp_path / f"window-{window}"
        samples = ShardedSamples(store, shards, folder, cache_bytes=size)
        taught = divide(samples.fingerprints, 0.3, 0, "drawn").taught.tolist()
        order, asked[:] = Order(0, [Source("samples", by_shard(taught, samples.sizes))], window), []
        for place in range(len(taught)):
            number = taught[order.row(place)]
            assert samples.read(number, "jpg") == EXPECTED[number][1]["jpg"]
            assert sum(file.stat().st_size for file in folder.iterdir()) <= size
        taken[window] = len(asked)
    assert taken[1] == len(shards.parts), "each shard is read once, though samples between are kept aside"
    assert taken[0] > 2 * taken[1], "an order over everything reads them again and again"


def test_two_readers_share_a_folder_and_find_a_block_that_was_removed_again(store: Store, tmp_path: Path) -> None:
    shards, folder = publish(store), tmp_path / "cache"
    one, other = (ShardedSamples(store, shards, folder, cache_bytes=1) for _ in range(2))
    for number in (0, 23, 0, 11):
        assert one.read(number, "txt") == other.read(number, "txt") == EXPECTED[number][1]["txt"]
    assert not list(folder.iterdir()), "a cache too small for a block keeps none, and reading goes on"


@pytest.mark.parametrize("cache_bytes", [None, 1 << 20])
def test_a_flipped_bit_is_refused(store: Store, tmp_path: Path, cache_bytes: int | None) -> None:
    shards = publish(store)
    damage(store, shards, 1, 3000)
    with pytest.raises(ManifestError, match=r"differs from its (manifest|index).*internvl verify"):
        check(ShardedSamples(store, shards, tmp_path, cache_bytes), EXPECTED)


def test_skip_leaves_out_the_damaged_samples_and_those_alone(store: Store, tmp_path: Path) -> None:
    shards = publish(store)
    row = indexed(store.read(shards.key(shards.parts[1].files["tar"]))).to_pylist()
    damage(store, shards, 1, row[2]["jpg_offset"] + 5)
    damage(store, shards, 1, row[6]["offset"] + 3)  # in a header: a reader of tars would stop here
    here = Workspace(store, InlineCluster(), tmp_path, on_corrupt="skip")
    samples = open_samples(here, shards)
    check(samples, [each for number, each in enumerate(EXPECTED) if number not in (10, 14)])
    assert samples.left_out == [EXPECTED[10][0], EXPECTED[14][0]] and samples.sizes == [8, 6, 8]
    assert here.opened[0].left_out == (EXPECTED[10][0], EXPECTED[14][0])


def test_skip_needs_an_index_and_all_samples_at_hand(store: Store, tmp_path: Path) -> None:
    bare = publish(store, with_index=False)
    damage(store, bare, 0, 700)
    with pytest.raises(ManifestError, match=r"shard 000000 .* has no index.*write it again"):
        ShardedSamples(store, bare, tmp_path, on_corrupt="skip")
    with pytest.raises(ManifestError, match="raise cache_bytes until it is copied, or use on_corrupt=fail"):
        ShardedSamples(store, bare, tmp_path, cache_bytes=5, on_corrupt="skip")


@pytest.mark.parametrize(("policy", "cache_bytes"), [("fail", None), ("skip", None), ("fail", 1 << 20)])
def test_a_missing_shard_is_refused_by_name(
    any_store: Store, tmp_path: Path, policy: OnCorrupt, cache_bytes: int | None
) -> None:
    shards = publish(any_store)
    any_store.remove(shards.key(shards.parts[1].files["tar"]))
    says = r"a shard of shards/clean@t is missing, .*/000001-.*tar; `internvl verify .* run stage write_shards again"
    with pytest.raises(ManifestError, match=says):
        check(ShardedSamples(any_store, shards, tmp_path, cache_bytes, policy), EXPECTED)


def test_a_shard_cut_between_two_samples_is_refused_although_its_hash_is_right(store: Store, tmp_path: Path) -> None:
    border = indexed(tar_bytes(EXPECTED[:PER_SHARD])).to_pylist()[5]["offset"]
    with pytest.raises(ManifestError, match=rf"shard 000000: the tar has no end: it was cut at byte {border}"):
        ShardedSamples(store, publish(store, cut=border), tmp_path)


def test_placement_decides_whether_shards_are_copied(store: Store, tmp_path: Path) -> None:
    shards = publish(store)
    whole = sum(part.files["tar"].bytes for part in shards.parts)
    for cache_bytes, copied in ((None, True), (whole, True), (whole - 1, False)):
        folder = tmp_path / f"{cache_bytes}"
        here = Workspace(store, InlineCluster(), folder, placement=Placement(cache_bytes=cache_bytes))
        samples = open_samples(here, shards)
        check(samples, EXPECTED)
        assert bool(list((folder / "shards-clean").glob("*.tar"))) == copied
        assert samples.sizes == [8, 8, 8] and len(here.opened) == 1
