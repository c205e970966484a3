"""Spilled rows come back bucket by bucket, on disk and on S3."""

import hashlib

import pyarrow as pa
import pytest

from infra.storage import Store
from stages.sources.rows import SPILL_SCHEMA
from stages.sources.spill import Spills, leading_bits, power_of_two


def rows(count: int) -> pa.Table:
    ids = pa.array([hashlib.sha256(bytes([n])).digest()[:16] for n in range(count)], pa.binary(16))
    known = {"url_id": ids, "url": pa.array([f"u{n}" for n in range(count)])}
    columns = [known.get(each.name, pa.nulls(count, each.type)) for each in SPILL_SCHEMA]
    return pa.table(columns, schema=SPILL_SCHEMA)


@pytest.mark.parametrize("buckets", [1, 8, 4096])
def test_buckets_come_back_one_by_one_and_together(any_store: Store, buckets: int) -> None:
    spills, table = Spills(any_store, "spill/run", buckets), rows(50)
    keys = [spills.write("a", table.slice(0, 20)), spills.write("b", table.slice(20, 30))]
    assert spills.read(keys, 0, buckets).sort_by("url").equals(table.sort_by("url"))
    number = leading_bits(table["url_id"], buckets)
    for bucket in {0, int(number[0]), buckets - 1}:
        wanted = {url for url, at in zip(table["url"].to_pylist(), number.tolist(), strict=True) if at == bucket}
        assert set(spills.read(keys, bucket, bucket + 1)["url"].to_pylist()) == wanted
    before = any_store.read(keys[0])
    assert any_store.read(spills.write("a", table.slice(0, 20))) == before
    spills.clear()
    assert any_store.keys("spill") == []


@pytest.mark.parametrize(
    ("count", "most", "wanted"), [(1, 10, 1), (10, 10, 1), (11, 10, 2), (40, 10, 4), (41, 10, 8)]
)
def test_buckets_are_the_smallest_power_of_two_that_is_enough(count: int, most: int, wanted: int) -> None:
    assert power_of_two(count, most) == wanted
