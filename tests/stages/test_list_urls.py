"""Url lists of every shape and of none: nothing lost, nothing guessed, parts a function of content alone."""

import gzip
import hashlib
import http.server
import json
import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.list_urls import Parameters, pin
from stages.manifest import Manifest, ManifestError, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sources import collect, reading_parquet, spill
from stages.sources.identity import uid_of, url_digest, url_id_of
from stages.sources.rows import Rejection
from stages.workspace import read_table


def listed(
    store: Store, *paths: Path | str, cluster: Cluster | None = None, name: str = "x", **more: Any
) -> Manifest:
    given = {"source": "x", "paths": [str(path) for path in paths], **more}
    spec = StageSpec(stage="list_urls", artifact=Ref(name=f"listing/{name}", version="v"), parameters=given)
    return materialize(spec, store, cluster or InlineCluster(), force=True)


def rows_of(store: Store, made: Manifest, role: str = "rows") -> list[dict[str, Any]]:
    return [
        row for part in made.parts if role in part.files for row in read_table(store, made, part, role).to_pylist()
    ]


def reasons(store: Store, made: Manifest) -> dict[int, str]:
    """Return the reason of each rejected row by its number, and check that no row is missing."""
    found = {row["source_row"]: row["reason"] for row in rows_of(store, made, "rejected")}
    assert made.ledger.listed == made.ledger.kept + len(rows_of(store, made, "rejected"))
    assert sum(made.totals["rejected"].values()) == made.ledger.rejected == len(rows_of(store, made, "rejected"))
    assert made.ledger.kept == len(rows_of(store, made)) and verify(store, made) == []
    return found


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
    assert digests[9] == url_digest("http://a.example/0") and digests[3] is None


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
    assert not [key for key in store.keys("") if not key.endswith("progress.json")]


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


# Parts.

COUNT = 300


def content() -> list[dict[str, Any]]:
    """Return rows with shared addresses, exact repeats, repeats with other scores, and wrong rows."""
    rng = random.Random(3)
    rows: list[dict[str, Any]] = [
        {
            "url": f"http://h{n % 4}.example/{n % 60}",
            "caption": f"Caption {n % 90}.",
            "similarity": rng.choice((0.25, 0.5, None)),
        }
        for n in range(COUNT)
    ]
    return [
        *rows,
        *({"url": u, "caption": c, "similarity": None} for u, c in ((None, "a"), ("http://a", None), (None, None))),
    ]


def in_files(folder: Path, seed: int, files: int, kind: str) -> list[Path]:
    rows = content()
    random.Random(seed).shuffle(rows)
    folder.mkdir()
    paths = []
    for number in range(files):
        some, path = rows[number::files], folder / f"{number}.{kind}"
        if kind == "parquet":
            pq.write_table(
                pa.Table.from_pylist(
                    some, pa.schema({"url": pa.string(), "caption": pa.string(), "similarity": pa.float64()})
                ),
                path,
                row_group_size=20,
            )
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in some))
        paths.append(path)
    return paths


def listing_parts(made: Manifest) -> list[tuple[str, str, int, int]]:
    return [(p.key, p.files["rows"].sha256, p.ledger.kept, p.ledger.rejected) for p in made.parts]


@pytest.mark.parametrize("rows_per_part", [1, 10, 1000])
def test_parts_do_not_hang_on_files_order_or_spills(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_part: int
) -> None:
    given: dict[str, Any] = {"columns": {"similarity": "similarity"}, "rows_per_part": rows_per_part}
    one = listed(store, *in_files(tmp_path / "one", 1, 1, "parquet"), **given)
    for module, name, rows in (
        (reading_parquet, "PIECE_ROWS", 40),
        (reading_parquet, "BATCH_ROWS", 16),
        (collect, "SPILL_ROWS", 30),
        (spill, "BUCKET_ROWS", 25),
    ):
        monkeypatch.setattr(module, name, rows)
    many = listed(store, *in_files(tmp_path / "many", 2, 3, "parquet"), name="many", **given)
    other = listed(store, *in_files(tmp_path / "other", 3, 2, "jsonl"), name="other", **given)
    assert listing_parts(one) == listing_parts(many) == listing_parts(other)
    assert [p.input_digest for p in one.parts] == [p.input_digest for p in many.parts]
    assert one.ledger == many.ledger and one.totals == many.totals
    assert len(one.parts) > 1 or rows_per_part == 1000
    assert not [key for key in store.keys("") if "spill" in key]


def test_rows_of_one_address_lie_together_and_repeats_leave_the_same_row(store: Store, tmp_path: Path) -> None:
    made = listed(
        store, *in_files(tmp_path / "x", 1, 2, "jsonl"), columns={"similarity": "similarity"}, rows_per_part=20
    )
    assert len(made.parts) == 16 and made.totals["rejected"]["repeat"] == made.ledger.rejected - 3
    seen: set[bytes] = set()
    for part in made.parts:
        rows = read_table(store, made, part, "rows").to_pylist()
        ids = [row["url_id"] for row in rows]
        assert ids == sorted(ids) and not seen & set(ids)
        seen |= set(ids)
        for row in rows:
            assert row["uid"] == uid_of("x", row["url"], row["caption"]) and row["url_id"] == url_id_of(row["url"])
            assert int(part.key) == row["url_id"][0] >> 4
    wanted = {(row["url"], row["caption"]) for row in content() if row["url"] and row["caption"]}
    assert {(row["url"], row["caption"]) for row in rows_of(store, made)} == wanted


@pytest.mark.ray
def test_a_cluster_gives_the_same_manifest(
    store: Store, s3_store: Store, ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "LIGHT_SECONDS", 0)
    paths = in_files(tmp_path / "x", 1, 3, "parquet")
    here = listed(store, *paths, rows_per_part=50)
    there = listed(s3_store, *paths, rows_per_part=50, cluster=ray_cluster)
    assert there.digest == here.digest and verify(s3_store, there) == []
    assert not [key for key in s3_store.keys("") if "spill" in key]


def test_a_run_that_breaks_leaves_no_spill(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "_alone", lambda _: False)
    monkeypatch.setattr("stages.list_urls.merge_bucket", lambda *_, **__: 1 / 0)
    paths = in_files(tmp_path / "x", 1, 1, "parquet")
    with pytest.raises(ZeroDivisionError):
        listed(store, *paths)
    assert not [key for key in store.keys("") if "spill" in key or key.endswith("manifest.json")]


def test_what_a_killed_run_spilled_goes_when_the_artifact_stands(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "_alone", lambda _: False)
    store.write("listing/x/v/spill/killed/000000-000000.spill", b"half")
    listed(store, *in_files(tmp_path / "x", 1, 1, "parquet"))
    assert not [key for key in store.keys("") if "spill" in key]


# Where lists lie.


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_lists_on_s3_and_on_the_web_are_read_and_pinned(
    store: Store, s3_store: Store, tmp_path: Path, web: str
) -> None:
    for kind in ("parquet", "jsonl"):
        (path,) = in_files(tmp_path / kind, 1, 1, kind)
        here = listed(store, path, rows_per_part=50)
        s3_store.write(f"lists/{path.name}", path)
        there = [f"{s3_store.root}/lists/*.{kind}", f"{web}/{kind}/{path.name}"]
        for address in there:
            assert listing_parts(listed(store, address, rows_per_part=50)) == listing_parts(here)
            before = pin(Parameters(source="x", paths=(address,))).content_digest
            assert before == pin(Parameters(source="x", paths=(address,))).content_digest
        s3_store.write(f"lists/{path.name}", path.read_bytes() + b"\n")
        assert pin(Parameters(source="x", paths=(there[0],))).content_digest != before
    with pytest.raises(ManifestError, match=r"absent\.parquet cannot be read"):
        listed(store, f"{web}/absent.parquet")


def test_changed_lists_and_block_lists_change_the_pin(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,caption\nhttp://a/1,One.\n")
    (tmp_path / "block.txt").write_text("http://a/2\n")
    given = Parameters(source="x", paths=(str(tmp_path / "list.csv"),), block_urls=(str(tmp_path / "block.txt"),))
    seen = [pin(given).content_digest]
    for name in ("list.csv", "block.txt"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "http://a/3,Three.\n")
        seen.append(pin(given).content_digest)
    assert len(set(seen)) == 3 and None not in seen


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
    with pytest.raises(ManifestError, match=r"domains\.txt: 'http://a\.example/page' is no domain; write it as"):
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
