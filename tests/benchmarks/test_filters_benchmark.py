"""The benchmark of filters measures what it says: rules of the peers by their definitions; a table without peers."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import filters
from benchmarks.peer_rules import (
    C4,
    PHRASES,
    Alphanumeric,
    AverageLineLength,
    FineWeb,
    GopherLines,
    MaximumLineLength,
    Regex,
    SpecialCharacters,
    TextLength,
    WordsNum,
)
from filters.base import CaptionFilter

CAPTIONS = [
    "Add to cart", "please add to cart now", "{ }", "Lorem IPSUM dolor", "-- !! a b", "猫 が いる", "é è ü ß",
    "12 34 ab",
    "--a --b c-- ...", "", "• a point", "it goes on…", "it is longer than ten.", "no.",
    "one two three four", "e\u0301 a", "don't !",
]  # fmt: skip
SPECIAL = tuple("-!.{} 0123456789'")


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (TextLength(min_len=3, max_len=10), lambda t: 3 <= len(t) <= 10),
        (Alphanumeric(min_ratio=0.7), lambda t: bool(t) and sum(map(str.isalnum, t)) / len(t) >= 0.7),
        (
            SpecialCharacters(max_ratio=0.25, characters=SPECIAL),
            lambda t: not t or sum(c in SPECIAL for c in t) / len(t) <= 0.25,
        ),
        (
            WordsNum(min_num=2, characters=SPECIAL),
            lambda t: sum(any(c not in SPECIAL for c in word) for word in t.split(" ")) >= 2,
        ),
        (Regex(regex=PHRASES), lambda t: not any(phrase in t for phrase in PHRASES.split("|"))),
        (AverageLineLength(min_len=3, max_len=10), lambda t: 3 <= sum(map(len, t.splitlines())) <= 10),
        (MaximumLineLength(min_len=3, max_len=10), lambda t: 3 <= max(map(len, t.splitlines()), default=0) <= 10),
        (GopherLines(), lambda t: not (t.startswith(("•", "-")) or t.endswith(("...", "…")))),
        (FineWeb(short_line_length=10, stop_characters=(".", "!")), lambda t: t.endswith((".", "!")) and len(t) > 10),
        (C4(), lambda t: "lorem ipsum" not in t.lower() and "{" not in t),
    ],
    ids=lambda case: getattr(case, "reason", ""),
)
def test_rules_of_the_peers(rule: CaptionFilter, reference: object) -> None:
    import unicodedata

    assert callable(reference)
    text = [unicodedata.normalize("NFKC", each) for each in CAPTIONS]
    found = rule.keep({"caption": pa.array(text)}).tolist()
    assert found == [bool(reference(each)) for each in text] and len(set(found)) == 2


def test_the_table_says_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "PEERS_PYTHON", str(tmp_path / "no-python"))
    monkeypatch.setattr(filters, "NUMBERS", 10_000)
    monkeypatch.setattr(filters, "SCAN_ROWS", 2_000)
    captions = [*CAPTIONS, "An old man is sitting on a bench in the park with his dog."]
    pq.write_table(pa.table({"caption": captions}), tmp_path / "captions.parquet")
    filters.main(tmp_path / "captions.parquet", 500, tmp_path / "filters.json")
    found = json.loads((tmp_path / "filters.json").read_text())
    assert found["rows"] == 500 and found["captions"]["rows_per_core_second"] > 0
    scan = found["manifest_scan"]
    assert 0 < scan["caption_quality"]["kept"] < scan["clean"]["kept"] == scan["caption_quality"]["rows"] < 2_000
    assert scan["clean"]["grown_megabytes"] > 0 and scan["clean"]["rows"] == 2_000
    assert "requirements-peers.txt" in capsys.readouterr().out
