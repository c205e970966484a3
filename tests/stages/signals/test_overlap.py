"""Evaluation sets of every kind, and the two tiers that need no model."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.manifest import ManifestError
from stages.pictures import decode
from stages.signals.evaluation_sets import drawn, references
from stages.signals.overlap import Overlap
from stages.tars import tar_bytes


def picture(seed: int, quality: int = 95, flat: bool = False) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = Image.new("RGB", (64, 64), (90, 90, 90)) if flat else Image.fromarray(small).resize((64, 64))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def phash(data: bytes) -> int:
    return decode(data, 1 << 20).phash


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_folder_tar_and_parquet_hold_the_same_pictures(tmp_path: Path) -> None:
    data = [picture(0), picture(1), picture(0, flat=True)]
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name, each in zip(("a.jpg", "deep/b.jpg", "flat.jpg"), data, strict=True):
        (tmp_path / "folder" / name).write_bytes(each)
    (tmp_path / "folder" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "tar.tar").write_bytes(tar_bytes((f"{n}", {"jpg": each}) for n, each in enumerate(data)))
    pq.write_table(pa.table({"image": [{"bytes": each, "path": None} for each in data]}), tmp_path / "p.parquet")
    sets = {name: str(tmp_path / path) for name, path in (("f", "folder"), ("p", "p.parquet"), ("t", "tar.tar"))}
    found = list(references(sets))
    names = ["f/a.jpg", "f/broken.jpg", "f/deep/b.jpg", "f/flat.jpg"]
    names += [f"p/{n:08d}" for n in range(3)] + [f"t/{n}.jpg" for n in range(3)]
    assert [each.name for each in found] == names
    whole = [each for each in found if each.picture]
    assert [each.sha256 for each in whole] == [sha256(each) for each in data] * 3
    # The hash of a flat picture is noise.
    assert [each.phash for each in whole] == [phash(data[0]), phash(data[1]), None] * 3
    assert found[1].sha256 == sha256(b"no picture") and found[1].picture is found[1].phash is None


def test_lists_of_hashes_need_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{'ab' * 32}\n\n{'0f' * 8}\n")
    (tmp_path / "b.csv").write_text(f"image,sha256,phash\nn01/x.jpg,{'CD' * 32},\ny,,{'0' * 15}1\n")
    pq.write_table(pa.table({"phash": pa.array([2**64 - 1], pa.uint64())}), tmp_path / "c.parquet")
    found = list(references({name: str(next(tmp_path.glob(f"{name}.*"))) for name in "abc"}))
    assert [(each.name, each.sha256, each.phash) for each in found] == [
        ("a/00000000", "ab" * 32, None),
        ("a/00000002", None, 0x0F0F0F0F0F0F0F0F),
        ("b/n01/x.jpg", "cd" * 32, None),
        ("b/y", None, 1),
        ("c/00000000", None, 2**64 - 1),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent", None, "set coco: there is no .*absent; give a folder"),
        ("x.csv", b"image,sha256\na,xyz\n", "row 0 of .* holds neither a sha256"),
        ("x.csv", b"name\na\n", "holds neither a sha256"),
        ("x.txt", b"", "holds no picture and no hash"),
        ("x.tar", b"no tar at all" * 99, "cannot be read as a tar"),
    ],
)
def test_sets_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=says):
        list(references({"coco": str(tmp_path / name)}))
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match=r"no bytes in a column image.*only caption"):
        list(references({"coco": str(tmp_path / "x.parquet")}))


def test_drawn_scenes_are_known_by_their_embedding_alone() -> None:
    found = list(drawn(2, 48, 0))
    assert [each.set for each in found] == ["scenes_iid"] * 2 + ["scenes_unseen"] * 2
    assert all(each.picture and each.sha256 is each.phash is None for each in found)


def table(*rows: dict[str, Any]) -> pa.Table:
    schema = pa.schema([("name", pa.string()), ("sha256", pa.string()), ("phash", pa.uint64()), ("row", pa.int64())])
    return pa.Table.from_pylist(list(rows), schema=schema)


def test_copies_are_hit_by_bytes_then_by_look_and_strangers_by_nothing() -> None:
    one, two, stranger = picture(0), picture(1), picture(2)
    again = picture(1, quality=60)
    assert 0 <= (phash(two) ^ phash(again)).bit_count() <= 4 and sha256(two) != sha256(again)
    index = Overlap(
        table(
            {"name": "coco/one", "sha256": sha256(one), "phash": phash(one)},
            {"name": "coco/two", "sha256": sha256(two), "phash": phash(two)},
            {"name": "list/stored", "sha256": "e" * 64, "phash": None},
        ),
        None,
    )
    data = [one, again, stranger, stranger]
    outcomes = pa.table(
        {
            "sha256": ["0" * 64, "1" * 64, "2" * 64, "e" * 64],
            "body_sha256": [sha256(each) for each in data[:3]] + [None],
            "phash": pa.array([phash(one), phash(again), phash(stranger), None], pa.uint64()),
        }
    )
    hits = index.find(outcomes, np.full((4, 3), np.nan, np.float16), 0.95)
    assert hits.names == ["coco/one", "coco/two", None, "list/stored"]
    assert hits.similarity[[0, 1, 3]].tolist() == [1, 1, 1] and np.isnan(hits.similarity[2])


def test_a_listed_hash_of_a_flat_picture_hits_no_flat_picture() -> None:
    flat = picture(0, flat=True)
    index = Overlap(table({"name": "list/flat", "sha256": None, "phash": phash(flat)}), None)
    outcomes = pa.table(
        {"sha256": ["0" * 64], "body_sha256": ["1" * 64], "phash": pa.array([phash(flat)], pa.uint64())}
    )
    assert index.find(outcomes, np.full((1, 3), np.nan, np.float16), 0.95).names == [None]
