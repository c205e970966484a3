"""Rows keep their numbers whatever lies between them, and reading comes in batches."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources import reading_delimited, reading_parquet
from stages.sources.columns import ColumnNames, layout_of
from stages.sources.reading import read, survey

LAYOUT = layout_of(ColumnNames())


@pytest.mark.parametrize("block_bytes", [20, 64, 1 << 20])
def test_broken_lines_shift_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(reading_delimited, "BLOCK_BYTES", block_bytes)
    rng, path = random.Random(block_bytes), tmp_path / "list.csv"
    for _ in range(12):
        broken = [rng.random() < 0.3 for _ in range(40)]
        lines = [f"u{at},x,y" if bad else f"u{at},c" for at, bad in enumerate(broken)]
        path.write_text("url,caption\n" + "".join(line + rng.choice(("\n", "\r\n", "\n\n")) for line in lines))
        good: dict[int, bytes] = {}
        wrong: dict[int, bytes] = {}
        for batch in read(survey(str(path), LAYOUT).pieces[0], LAYOUT):
            good |= dict(zip(batch.rows.to_pylist(), batch.columns["url"].to_pylist(), strict=True))
            wrong |= dict(batch.broken)
        assert good == {at: f"u{at}".encode() for at, bad in enumerate(broken) if not bad}
        assert wrong == {at: lines[at].encode() for at, bad in enumerate(broken) if bad}


def test_a_parquet_file_is_cut_at_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_parquet, "PIECE_ROWS", 25)
    monkeypatch.setattr(reading_parquet, "BATCH_ROWS", 7)
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"url": [f"u{n}" for n in range(95)], "caption": ["c"] * 95}), path, row_group_size=10)
    found = survey(str(path), LAYOUT)
    assert [(p.first_group, p.stop_group, p.first_row) for p in found.pieces] == [
        (0, 3, 0), (3, 6, 30), (6, 9, 60), (9, 10, 90),
    ]  # fmt: skip
    batches = [batch for piece in found.pieces for batch in read(piece, LAYOUT)]
    assert max(len(batch.rows) for batch in batches) <= 7 and found.rows == 95
    rows = {
        n: u
        for batch in batches
        for n, u in zip(batch.rows.to_pylist(), batch.columns["url"].to_pylist(), strict=True)
    }
    assert rows == {n: f"u{n}" for n in range(95)}
