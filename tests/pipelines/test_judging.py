"""`internvl judge` on small files of every kind, and on what is no such file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from filters.catalogue import FILTERS
from pipelines import caption_files
from pipelines.cli import app

CAPTIONS = [
    "An old man is sitting on a bench in the park with his dog.",
    "red moon",
    "Auf dem Bild sind drei gelbe Kreuze rechts von einem blauen Ring.",
    "图片里有三个黄色的十字在一个蓝色的圆环的右边。",
    "Click here to view larger image",
    None,
    "DSC0123.jpg",
    *["The best pictures of the week are in our gallery."] * 11,
    'He said "yes", and left for the sea, with a line\nbreak in it',
]


def judge(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["judge", *map(str, words)])
    return found.exit_code, found.output


def result(*words: object) -> dict[str, Any]:
    code, output = judge(*words, "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


def write(folder: Path, kind: str, columns: dict[str, Any]) -> Path:
    path = folder / f"captions.{kind}"
    table = pa.table(columns)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if kind == "tsv" else ","))
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl"])
def test_every_kind_of_file_gives_the_same_funnel(kind: str, tmp_path: Path) -> None:
    found = result(write(tmp_path, kind, {"id": range(len(CAPTIONS)), "TEXT": CAPTIONS}))
    rules = {each["rule"]: each for each in found["rules"]}
    assert found["rows"] == len(CAPTIONS) and found["caption_column"] == "TEXT"
    assert found["kept"] == 4 and found["kept_share"] == pytest.approx(4 / len(CAPTIONS), abs=1e-6)
    assert rules["caption_frequency"]["total"] == rules["caption_frequency"]["alone"] == 11
    assert rules["boilerplate"]["total"] == 1 and rules["filename"]["total"] == 1
    assert found["not_judged"] == {}
    assert found["languages"]["en"]["rows"] >= 12
    assert found["languages"]["zh"] == {"rows": 1, "kept": 1}
    assert sum(each["rows"] for each in found["languages"].values()) == len(CAPTIONS)


def test_verdicts_say_for_each_row_what_took_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "parquet", {"caption": CAPTIONS})
    counted = result(path, "--out", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "verdicts.parquet")
    assert table.schema.names == ["row", "kept", "reasons"]
    assert table["row"].to_pylist() == list(range(len(CAPTIONS)))
    reasons = table["reasons"].to_pylist()
    assert table["kept"].to_pylist() == [not each for each in reasons]
    assert reasons[0] == [] and "length_units" in reasons[1] and "length_units" in reasons[5]
    totals = Counter(name for each in reasons for name in each)
    alone = Counter(each[0] for each in reasons if len(each) == 1)
    assert {each["rule"]: (each["total"], each["alone"]) for each in counted["rules"]} == {
        each["rule"]: (totals[each["rule"]], alone[each["rule"]]) for each in counted["rules"]
    }
    monkeypatch.setattr(caption_files, "ROWS_AT_ONCE", 3)
    assert result(path, "--out", tmp_path / "small") == counted
    assert pq.read_table(tmp_path / "small" / "verdicts.parquet").equals(table)


def test_signals_are_found_by_the_names_that_sets_ship(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "parquet",
        {
            "text": ["a cat", "a dog", "a cow"],
            "similarity": [0.1, 0.3, None],
            "pwatermark": [0.99, 0.1, None],
            "WIDTH": [1000, 300, 0],
            "HEIGHT": [10, 200, 0],
            "LANGUAGE": ["en", "de", None],
        },
    )
    found = result(path, "--policy", "clean")
    rules = {each["rule"]: (each["total"], each["unknown"]) for each in found["rules"]}
    assert rules == {
        "clip_similarity": (2, 1), "watermark": (1, 1), "min_side": (1, 1), "aspect": (1, 1),
        "caption_length": (0, 0),
    }  # fmt: skip
    assert found["not_judged"]["unsafe"] == ["unsafe"] and found["not_judged"]["eval_overlap"] == ["eval_similarity"]
    assert found["languages"] == {
        "de": {"rows": 1, "kept": 1}, "en": {"rows": 1, "kept": 0}, "unknown": {"rows": 1, "kept": 0},
    }  # fmt: skip


def test_more_rules_can_be_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", {"caption": ["Write to jane@example.org", "An old man on a bench in the park"]})
    assert "pii" not in {each["rule"] for each in result(path)["rules"]}
    found = {each["rule"]: each["total"] for each in result(path, "--rule", "pii", "--rule", "truncated")["rules"]}
    assert found["pii"] == 1 and found["truncated"] == 0


def test_an_exempt_profile_keeps_all(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", {"caption": ["red moon", "x"]})
    assert result(path, "--profile", "cc3m")["kept"] == 2
    code, output = judge(path, "--profile", "cc3m")
    assert code == 0 and "changes nothing for this profile" in output


def test_the_table_names_rules_and_what_was_not_judged(tmp_path: Path) -> None:
    code, output = judge(write(tmp_path, "csv", {"caption": CAPTIONS}), "--policy", "clean")
    assert code == 0
    assert "caption_length" in output and "not judged: watermark, because the file has no watermark" in output


def test_filters_of_ones_own_join(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "cats.py").write_text(
        "from filters.base import CaptionFilter\n\n\nclass NoCats(CaptionFilter):\n    reason = 'cats'\n\n"
        "    def passes(self, captions):\n        return ~captions.matches('cat', captions.length > 0)\n"
    )
    path = write(tmp_path, "csv", {"caption": ["a cat", "a dog"]})
    found = {each["rule"]: each["total"] for each in result(path, "--filters-folder", folder)["rules"]}
    assert found["cats"] == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "there is no file"),
        ("captions.xlsx", b"PK", "none of parquet, csv, tsv, jsonl"),
        ("broken.parquet", b"PAR1 no more", "cannot be read as parquet"),
        ("empty.csv", b"", "cannot be read as csv"),
        ("empty.jsonl", b"", "no column of captions"),
        ("other.csv", b"url,label\nx,y\n", "its columns are url, label; name one with --caption-column"),
        ("list.jsonl", b"[1, 2]\n", "a line is no object"),
        ("half.jsonl", b'{"caption": "a"}\n{"caption": \n', "line 2: no JSON object"),
        (
            "number.jsonl",
            b'{"caption": "x"}\n\n{"caption": 5}\n',
            "line 3: 'caption' is not text; write text",
        ),
        ("broken.jsonl", b'{"caption": "\\ud800"}\n', "line 1: 'caption' is not text"),
        ("numbers.jsonl", b'{"caption": "x", "similarity": [1]}\n', "line 1: 'similarity' is not a number"),
        (
            "numbers-big.jsonl",
            b'{"caption": "x", "similarity": 1%s}\n' % (b"0" * 400),
            "line 1: 'similarity' is not",
        ),
        ("latin.csv", "caption\nschön\n".encode("latin-1") * 2, "latin.csv"),
        ("numbers.csv", b"caption,similarity\na,high\n", "numbers.csv, after row 0"),
    ],
)
def test_what_cannot_be_judged_is_named(name: str, content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    policy = "clean" if "numbers" in name else "caption_quality"
    code, output = judge(path, "--policy", policy)
    assert code == 2 and says in " ".join(output.split()), output


def test_wrong_words_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", {"caption": [1, 2], "other": ["a", "b"]})
    for words, says in (
        ((path,), "column 'caption' is int64, not text"),
        ((path, "--caption-column", "captoin"), "no column 'captoin'"),
        ((path, "--caption-column", "other", "--profile", "laion"), "no profile 'laion'; there are laion_en"),
        ((path, "--caption-column", "other", "--rule", "sparkle"), "no rule 'sparkle'"),
        ((path, "--caption-column", "other", "--out", path), "is no folder"),
        ((path, "--caption-column", "other", "--filters-folder", tmp_path / "no"), "is no folder"),
    ):
        code, output = judge(*words)
        assert code == 2 and says in " ".join(output.split()), output


def test_no_rows_are_a_funnel_of_zero(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", {"caption": pa.array([], pa.string())})
    found = result(path, "--out", tmp_path / "out")
    assert found["rows"] == found["kept"] == 0 and found["kept_share"] is None
    assert pq.read_table(tmp_path / "out" / "verdicts.parquet").num_rows == 0
    assert {each["rule"] for each in found["rules"]} <= set(FILTERS)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_whole_numbers_that_float32_has_to_round_are_judged(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind, {"caption": ["a cat", "a dog"], "image_bytes": [2**24 + 1, 7]})
    found = {each["rule"]: each["total"] for each in result(path, "--policy", "clean")["rules"]}
    assert found["image_bytes"] == 1


def test_lines_of_json_name_what_they_know_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    lines = ['{"url": "a"}', '{"caption": "a cat"}', f'{{"image_bytes": {2**70}, "caption": "a dog"}}']
    path.write_text("\n".join([*lines, '{"image_bytes": "7", "caption": "a fox"}']))
    found = result(path, "--policy", "clean")
    rules = {each["rule"]: (each["total"], each["unknown"]) for each in found["rules"]}
    assert found["rows"] == 4 and rules["image_bytes"] == (1, 2)


def test_an_error_late_in_a_file_leaves_earlier_verdicts_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_files, "ROWS_AT_ONCE", 1)
    path, out = tmp_path / "some.jsonl", tmp_path / "out"
    path.write_text('{"caption": "a cat"}\n')
    result(path, "--out", out)
    before = (out / "verdicts.parquet").read_bytes()
    path.write_text('{"caption": "a cat"}\n{"caption": 5}\n')
    # These rules count nothing over the file, so a row is judged before the bad one is met.
    code, _ = judge(path, "--policy", "clean", "--out", out)
    assert code == 2 and (out / "verdicts.parquet").read_bytes() == before
    assert [each.name for each in out.iterdir()] == ["verdicts.parquet"]
