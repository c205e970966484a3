"""Resharding copies bytes, and gives what writing from verdicts with the same keep set gives, byte for byte."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_world import derive, hashes, kept_rows, make_world, write

from infra.storage import Store
from stages.manifest import Manifest, ManifestError, verify
from stages.materialize import Drift
from stages.reshard import PIECE_BYTES, Parameters, kept_of, pin
from stages.takedown_list import Takedown, read_list, register

CHOSEN = {row["uid"] for row in kept_rows()[::3]}


@pytest.fixture
def shards(store: Store) -> Manifest:
    make_world(store)
    return write(store)


def listed(folder: Path, uids: set[bytes], kind: str = "txt") -> str:
    path = folder / f"keep.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"uid": pa.array(sorted(uids), pa.binary(16))}), path)
    else:
        path.write_text("# keep\n" + "\n".join(uid.hex().upper() for uid in sorted(uids)) + "\n\n")
    return str(path)


@pytest.mark.parametrize("kind", ["txt", "parquet"])
@pytest.mark.parametrize("sizes", [{}, {"rows_per_shard": 3}, {"rows_per_shard": 50, "bytes_per_shard": 12_000}])
def test_a_keep_list_gives_what_writing_with_it_gives(
    store: Store, shards: Manifest, tmp_path: Path, kind: str, sizes: dict[str, int]
) -> None:
    again = derive(store, "reshard", "few", keep=listed(tmp_path, CHOSEN, kind), **sizes)
    other = Store(str(tmp_path / "other"))
    make_world(other, keep=lambda row: row["uid"] in CHOSEN)
    assert hashes(again) == hashes(write(other, "few", **sizes))
    assert (again.ledger.listed, again.ledger.kept) == (shards.ledger.kept, len(CHOSEN))
    assert again.totals["keep"] == {"listed": len(CHOSEN), "kept": len(CHOSEN)}
    assert not verify(store, again)


def test_other_sizes_alone_keep_every_sample_and_back_again(store: Store, shards: Manifest) -> None:
    larger = derive(store, "reshard", "larger", rows_per_shard=1000)
    assert len(larger.parts) == 3 and larger.ledger.kept == shards.ledger.kept
    back = derive(store, "reshard", "back", of="larger", rows_per_shard=7)
    assert hashes(back) == hashes(shards)


def test_nothing_but_ranges_is_read_and_neighbours_together(
    store: Store, shards: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read, read_range = Store.read, Store.read_range

    def whole(self: Store, key: str) -> bytes:
        assert not key.endswith(".tar")
        return read(self, key)

    def piece(self: Store, key: str, start: int, stop: int) -> bytes:
        reads.append(key)
        return read_range(self, key, start, stop)

    monkeypatch.setattr(Store, "read", whole)
    monkeypatch.setattr(Store, "read_range", piece)
    derive(store, "reshard", "larger", rows_per_shard=1000)
    assert len(reads) == len(shards.parts), "an old shard that goes whole into a new one is one read"


def test_a_keep_list_goes_by_in_pieces(
    store: Store, shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = derive(store, "reshard", "whole", keep=listed(tmp_path, CHOSEN))
    assert PIECE_BYTES % 16 == 0
    monkeypatch.setattr("stages.reshard.PIECE_BYTES", 48)
    assert hashes(derive(store, "reshard", "pieces", keep=listed(tmp_path, CHOSEN))) == hashes(whole)


def test_uids_that_are_not_there_and_repeats_are_counted(store: Store, shards: Manifest, tmp_path: Path) -> None:
    path = Path(listed(tmp_path, CHOSEN | {bytes(16)}))
    path.write_text(path.read_text() + f"uid:{min(CHOSEN).hex()}\n")
    made = derive(store, "reshard", "few", keep=str(path))
    assert made.totals["keep"] == {"listed": len(CHOSEN) + 2, "kept": len(CHOSEN)}


@pytest.mark.parametrize("end", [b"\0", b"\0\0\0", b" "])
def test_uids_that_end_in_zeros_are_told_apart(store: Store, end: bytes) -> None:
    uid = bytes(range(1, 17 - len(end))) + end
    other = uid[: -len(end)] + b"\1" + end[1:]
    store.write("keep.bin", uid)
    assert kept_of(store, "keep.bin", 16, [other, uid, bytes(16)]) == [False, True, False]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "names no uid, so nothing would be kept"),
        ("abcd\n", "keep.txt line 1 is no uid; give 32 hexadecimal digits"),
        (f"\n{'g' * 32}\n", "keep.txt line 2 is no uid"),
        ("0" * 32, r"none of the 54 samples of shards/clean@v1 would be kept: of 1 uids in the list 0 are there"),
    ],
)
def test_lists_that_keep_nothing_are_refused(
    store: Store, shards: Manifest, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "keep.txt"
    path.write_text(content)
    with pytest.raises(ManifestError, match=says):
        derive(store, "reshard", "few", keep=str(path))
    with pytest.raises(ManifestError, match=r"absent\.txt is not a file"):
        pin(Parameters(keep=str(tmp_path / "absent.txt")), store)


def test_a_list_or_a_takedown_that_changed_is_drift(store: Store, shards: Manifest, tmp_path: Path) -> None:
    path = listed(tmp_path, CHOSEN)
    given = pin(Parameters(keep=path), store)
    derive(store, "reshard", "few", **given.model_dump())
    assert derive(store, "reshard", "few", **pin(Parameters(keep=path), store).model_dump())
    taken = tmp_path / "taken.txt"
    taken.write_text(min(CHOSEN).hex())
    register(store, read_list(str(taken)))
    with pytest.raises(Drift, match="takedowns"):
        derive(store, "reshard", "few", **pin(Parameters(keep=path), store).model_dump())
    listed(tmp_path, CHOSEN - {min(CHOSEN)})
    with pytest.raises(ManifestError, match="not the list that this run began with"):
        derive(store, "reshard", "other", **given.model_dump())


def test_takedown_lists_in_the_store_are_honoured(store: Store, shards: Manifest, tmp_path: Path) -> None:
    uids = sorted(CHOSEN)
    register(store, Takedown({"uid": frozenset(uids[:2])}))
    made = derive(store, "reshard", "few", keep=listed(tmp_path, CHOSEN))
    assert made.ledger.kept == len(CHOSEN) - 2
    assert made.totals["taken_down"] == {"lists": 1, "rows": {"uid": 2}}
    other = Store(str(tmp_path / "other"))
    make_world(other, keep=lambda row: row["uid"] in set(uids[2:]))
    assert hashes(made) == hashes(write(other))


def test_shards_of_an_earlier_version_are_refused_with_the_next_move(store: Store, shards: Manifest) -> None:
    bare = shards.model_copy(update={"totals": {"per_source": {}}})
    store.write("shards/clean/v1/manifest.json", bare.model_dump_json().encode())
    with pytest.raises(ManifestError, match=r"shards/clean@v1 does not tell how .*internvl rerun write_shards"):
        derive(store, "reshard", "few")
    parts = [part.model_copy(update={"files": {"tar": part.files["tar"]}}) for part in shards.parts]
    bare = shards.model_copy(update={"parts": tuple(parts)})
    store.write("shards/clean/v1/manifest.json", bare.model_dump_json().encode())
    with pytest.raises(ManifestError, match=r"shard 000000-000000 of shards/clean@v1 has no index"):
        derive(store, "reshard", "few")


def test_a_damaged_shard_is_noticed(store: Store, shards: Manifest) -> None:
    part: Any = shards.parts[1]
    key = shards.key(part.files["tar"])
    data = store.read(key)
    store.write(key, data[:600] + bytes([data[600] ^ 1]) + data[601:])
    with pytest.raises(ManifestError, match=r"in shards/clean/v1/parts/.*differs from its index"):
        derive(store, "reshard", "other", rows_per_shard=5)
