"""Wrong rows are counted one by one, wrong lists are refused at once, and what operators block is not listed."""

import csv
import gzip
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listings import listed, reasons, rows_of

from infra.storage import Store
from stages.manifest import ManifestError
from stages.sources.identity import uid_of
from stages.sources.rows import Rejection

# Wrong rows.


def test_each_wrong_row_of_a_csv_is_counted_and_found_again(store: Store, tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbfurl,caption,width",
        b"http://a.example/0,A caption.,10",
        b'http://a.example/1,"Two\nlines, and a ""quote"".",10.0',
        b"http://a.example/2,too,many,values",
        b",No address.,1",
        b"http://a.example/4,  ,1",
        b"http://a.example/5,Bad \xff\xfe bytes.,1",
        b"http://a.example/" + b"6" * 70_000 + b",A long link.,1",
        b"too few",
        b"http://a.example/8,A width that is none.,wide",
        b"HTTP://A.example:80/0#again,A caption.,10",
        b"\xc3\x28://a,Bad bytes in the link.,1",
    ]
    (tmp_path / "list.csv").write_bytes(b"\n".join(lines) + b"\n")
    made = listed(store, tmp_path / "list.csv", columns={"width": "width"})
    assert reasons(store, made) == {
        2: "bad_row",
        3: "no_url",
        4: "no_caption",
        5: "bad_encoding",
        6: "url_too_long",
        7: "bad_row",
        9: "repeat",
        10: "bad_encoding",
    }
    kept = {row["caption"]: row for row in rows_of(store, made)}
    assert set(kept) == {"A caption.", 'Two\nlines, and a "quote".', "A width that is none."}
    assert [row["width"] for row in kept.values() if row["width"]] == [10, 10]
    assert made.totals["unread"] == {"width": 1}
    files = {row["source_file"] for row in rows_of(store, made, "rejected")}
    assert files == {str(tmp_path / "list.csv")}
    digests = {row["source_row"]: row["url_sha256"] for row in rows_of(store, made, "rejected")}
    assert digests[9] == hashlib.sha256(b"http://a.example/0").digest() and digests[3] is None


def test_each_wrong_line_of_a_jsonl_is_counted(store: Store, tmp_path: Path) -> None:
    lines = [
        b'{"url": "http://a/0", "caption": "One."}',
        b'{"url": "http://a/1", "caption": ',
        b"[1, 2]",
        b'{"url": 7, "caption": "A number for a link."}',
        b'{"url": "http://a/4", "caption": "\\ud800 alone"}',
        b'{"url": "http://a/5", "caption": "\xff"}',
        b'{"caption": "No link at all."}',
        '{"url": "http://a/7", "caption": "\\ud83d\\ude00 a pair, 图"}'.encode(),
    ]
    (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
    lines += [
        b'{"url": "http://a/8", "caption": "Wide.", "width": %s}' % w for w in (b"9" * 400, b'"4"', b"NaN", b"7.0")
    ]
    (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
    made = listed(store, tmp_path / "list.jsonl", columns={"width": "width"})
    expected = {1: "bad_row", 2: "bad_row", 3: "no_url", 4: "bad_encoding", 5: "bad_encoding", 6: "no_url"}
    assert reasons(store, made) == expected | {8: "repeat", 9: "repeat", 10: "repeat"}
    assert {row["caption"]: row["width"] for row in rows_of(store, made)} == {
        "One.": None,
        "😀 a pair, 图": None,
        "Wide.": 7,
    }


def test_wrong_rows_of_parquet_and_tsv_are_counted(store: Store, tmp_path: Path) -> None:
    links = [b"http://a/0", b"http://a/\xff", None, b"", b"http://a/4"]
    said = [b"One.", b"Two.", b"Three.", b"Four.", b"\xed\xa0\x80 surrogate"]
    # Arrow lets a string column hold any bytes, and so does parquet.
    columns = {n: pa.Array.from_buffers(pa.string(), 5, pa.array(v, pa.binary()).buffers()) for n, v in
               (("url", links), ("caption", said))}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    made = listed(store, tmp_path / "list.parquet")
    assert reasons(store, made) == {1: "bad_encoding", 2: "no_url", 3: "no_url", 4: "bad_encoding"}
    (tmp_path / "list.tsv").write_bytes(b'url\tcaption\nhttp://a/0\t"One\tTwo"\nhttp://a/1\t\xe4\nhttp://a/2\n')
    assert reasons(store, listed(store, tmp_path / "list.tsv")) == {1: "bad_encoding", 2: "bad_row"}


CAPTIONS = [
    "nul \x00 and \x1b[31m escape",
    "<script>alert(1)</script>",
    "\u202eright to left\u200f",
    "e\u0301 is not é",
    "𝔘 😀 图",
    "\ufeffbom inside",
    "  blanks around  ",
    'a "quote", a comma',
    "two\nlines\r\nand\ta tab",
    "'; DROP TABLE rows; --",
    "=1+1",
    "\\",
]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_captions_come_through_byte_by_byte(store: Store, tmp_path: Path, kind: str) -> None:
    path, links = tmp_path / f"list.{kind}", [f"http://a/{n}" for n in range(len(CAPTIONS))]
    if kind == "parquet":
        pq.write_table(pa.table({"url": links, "caption": CAPTIONS}), path)
    elif kind == "jsonl":
        rows = zip(links, CAPTIONS, strict=True)
        path.write_text("".join(json.dumps({"url": link, "caption": said}) + "\n" for link, said in rows))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
                [("url", "caption"), *zip(links, CAPTIONS, strict=True)]
            )
    made = listed(store, path)
    assert {row["url"]: row["caption"] for row in rows_of(store, made)} == dict(zip(links, CAPTIONS, strict=True))
    assert {row["uid"] for row in rows_of(store, made)} == set(map(partial(uid_of, "x"), links, CAPTIONS))


def test_a_whole_number_that_no_picture_has_ends_no_listing(store: Store, tmp_path: Path) -> None:
    widths = pa.array([640, 2**63 - 1, 2**53 + 1, None], pa.int64())
    urls = [f"http://a.example/{n}" for n in range(4)]
    table = pa.table({"URL": urls, "TEXT": ["A caption."] * 4, "WIDTH": widths})
    pq.write_table(table, tmp_path / "list.parquet")
    columns = {"url": "URL", "caption": "TEXT", "width": "WIDTH"}
    made = listed(store, tmp_path / "list.parquet", columns=columns)
    assert {row["url"][-1]: row["width"] for row in rows_of(store, made)} == {
        "0": 640,
        "1": None,
        "2": None,
        "3": None,
    }


def test_the_reasons_are_a_closed_list() -> None:
    assert {str(each) for each in Rejection} == {
        "bad_row", "bad_encoding", "no_url", "url_too_long", "no_caption", "blocked_url", "blocked_domain", "repeat",
    }  # fmt: skip


# Wrong lists.


def jpeg(path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://a"], "caption": pa.array([b"\xff\xd8\xff\xe0"], pa.binary())}), path)


def numbers(path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://a"], "caption": [7]}), path)


def nested(path: Path) -> None:
    pq.write_table(pa.table({"url": [["http://a"]], "caption": ["One."]}), path)


def cut(path: Path) -> None:
    numbers(path)
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", b"a,b\n1,2\n", "has no column 'url', only a, b; name yours with --url-column"),
        ("x.csv", b"url,url,caption\na,b,c\n", "has two columns 'url'; rename one"),
        ("x.csv", "url,caption\na,b\n".encode("utf-16"), "is UTF-16; write it as UTF-8"),
        ("x.csv", b'url,caption\n"http://a,b\n' + b"c,d\n" * 300, "a quote that opens in row 2 is never closed"),
        ("x.jsonl", b'{"url": "a", "caption": 1}\n{"url": "b", "caption": 2}\n', "'caption' holds int64, not text"),
        ("x.jsonl", b"no json\n", "holds no JSON object"),
        ("x.json", b'[{"url": "a", "caption": "b"}', "is not whole JSON"),
        ("x.csv.gz", gzip.compress(b"url,caption\na,b\n")[:-9], "cannot be read"),
        ("x.parquet", jpeg, r"'caption' holds bytes that are no UTF-8 \(row 0\), not text"),
        ("x.parquet", numbers, "column 'caption' holds int64, not text, which is what caption has to be"),
        ("x.parquet", nested, "column 'url' holds list<.*>, not text"),
        ("x.parquet", cut, "cannot be read"),
        ("x.xls", b"x", "unknown kind of file; give parquet, csv"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_listed(
    store: Store, tmp_path: Path, name: str, content: Any, says: str
) -> None:
    """A good list beside it changes nothing: all schemas are looked at before a row is read."""
    (tmp_path / "a-good.csv").write_text("url,caption\nhttp://a/1,One.\n")
    content(tmp_path / name) if callable(content) else (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=says):
        listed(store, tmp_path / "a-good.csv", tmp_path / name)
    rest = [key for key in store.keys("") if not key.endswith("progress.json") and not key.startswith("leases/")]
    assert not rest


def test_lists_of_parallel_lists_are_checked(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "sbu.json"
    for content, says in (
        ({"image_urls": ["a"], "captions": []}, r"differ in length \(image_urls 1, captions 0\)"),
        ({"pictures": []}, "is no object of lists image_urls, captions"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ManifestError, match=says):
            listed(store, path, adapter="sbu")


def test_an_empty_file_among_many_is_counted(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "b.csv").write_bytes(b"url,caption\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"url": "http://a/1", "caption": "One."}'))
    pq.write_table(
        pa.table({"url": pa.array([], pa.string()), "caption": pa.array([], pa.string())}), tmp_path / "d.parquet"
    )
    made = listed(store, *sorted(tmp_path.glob("?.*")))
    assert (made.ledger.listed, made.totals) == (1, {"rejected": {}, "empty_files": 1})
    with pytest.raises(ManifestError, match=r"source x lists no rows: .*a\.csv.* is empty"):
        listed(store, tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "d.parquet")


# What operators do not want.


def test_blocked_addresses_and_domains_are_rejected_and_counted(store: Store, tmp_path: Path) -> None:
    links = [
        "http://a.example/1",
        "http://a.example/2",
        "http://b.a.example/3",
        "http://ba.example/4",
        "http://bücher.de/5",
    ]
    pq.write_table(pa.table({"url": links, "caption": ["One."] * 5}), tmp_path / "list.parquet")
    digest = hashlib.sha256(b"http://a.example/2").hexdigest().upper()
    (tmp_path / "urls.txt").write_text(f"# ours\nHTTP://A.example:80/1#x\n\n{digest}\n")
    pq.write_table(pa.table({"domain": ["XN--BCHER-KVA.de", None]}), tmp_path / "domains.parquet")
    (tmp_path / "domains.txt").write_text("*.a.example\nexample.org\n")
    blocked = {"block_urls": [str(tmp_path / "urls.txt")], "block_domains": [str(tmp_path / "domains.*")]}
    made = listed(store, tmp_path / "list.parquet", **blocked)
    assert reasons(store, made) == {0: "blocked_url", 1: "blocked_url", 2: "blocked_domain", 4: "blocked_domain"}
    assert [row["url"] for row in rows_of(store, made)] == ["http://ba.example/4"]
    (tmp_path / "domains.txt").write_text("http://a.example/page\n")
    with pytest.raises(ManifestError, match=r"domains\.txt line 1: 'http://a\.example/page' is no domain; write"):
        listed(store, tmp_path / "list.parquet", **blocked)
    with pytest.raises(ManifestError, match=r"no file matches '.*absent"):
        listed(store, tmp_path / "list.parquet", block_urls=[str(tmp_path / "absent")])


def test_expected_hashes_are_kept_where_they_are_hashes(store: Store, tmp_path: Path) -> None:
    good = hashlib.sha256(b"x").hexdigest()
    pq.write_table(pa.table({"url": [f"http://a/{n}" for n in range(3)], "caption": ["One."] * 3,
                             "sha256": [good.upper(), "beef", None]}), tmp_path / "list.parquet")  # fmt: skip
    made = listed(store, tmp_path / "list.parquet", columns={"hash": "sha256"})
    assert {row["url"]: row["expected_hash"] for row in rows_of(store, made)} == {
        "http://a/0": f"sha256:{good}", "http://a/1": None, "http://a/2": None,
    }  # fmt: skip
    assert made.totals["unread"] == {"hash": 1}


@pytest.mark.parametrize("line", ["a.example/1", "0123abcd", "ftp://a.example/1", "http://"])
def test_a_line_that_could_block_nothing_is_refused(store: Store, tmp_path: Path, line: str) -> None:
    (tmp_path / "list.csv").write_text("url,caption\nhttp://a.example/1,One.\n")
    (tmp_path / "urls.txt").write_text(f"# ours\nhttp://a.example/2\n\n{line}\n")
    with pytest.raises(ManifestError, match=r"urls\.txt line 4: .* is no address; write it with http"):
        listed(store, tmp_path / "list.csv", block_urls=[str(tmp_path / "urls.txt")])
