"""Listing on disk, S3 and the web, alone and on a cluster: parts are a function of content, memory is bounded."""

import gzip
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
from listings import listed, rows_of

from infra.cluster import Cluster
from infra.storage import Store
from stages.list_urls import Parameters, pin
from stages.manifest import Manifest, ManifestError, verify
from stages.sources import collect, reading_parquet, spill
from stages.sources.identity import uid_of, url_id_of
from stages.workspace import read_table

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


def test_no_work_holds_more_than_a_stretch_of_the_source(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the source, no more rows at once: those waiting to be spilled, and those of one bucket."""
    for module, name, rows in (
        (reading_parquet, "BATCH_ROWS", 16),
        (collect, "SPILL_ROWS", 50),
        (spill, "BUCKET_ROWS", 40),
    ):
        monkeypatch.setattr(module, name, rows)
    held: dict[str, list[int]] = {"write": [], "read": []}
    write, read = spill.Spills.write, spill.Spills.read

    def writing(self: spill.Spills, name: str, rows: pa.Table) -> str:
        held["write"].append(rows.num_rows)
        return write(self, name, rows)

    def reading(self: spill.Spills, keys: list[str], first: int, stop: int) -> pa.Table:
        held["read"].append((rows := read(self, keys, first, stop)).num_rows)
        return rows

    monkeypatch.setattr(spill.Spills, "write", writing)
    monkeypatch.setattr(spill.Spills, "read", reading)
    for count in (1000, 2000):
        links = [f"http://a/{n}" for n in range(count)]
        pq.write_table(pa.table({"url": links, "caption": links}), tmp_path / "list.parquet")
        listed(store, tmp_path / "list.parquet", rows_per_part=20)
        assert sum(held["write"]) == sum(held["read"]) == count
        # Buckets are even on the average alone.
        assert max(held["write"]) <= 50 + 16 and max(held["read"]) <= 2 * 40
        held["write"].clear(), held["read"].clear()


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


def test_lists_behind_a_query_are_unpacked_and_blocked_alike(store: Store, tmp_path: Path, web: str) -> None:
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"url,caption\nhttp://a/1,One.\nhttp://a/2,Two.\n"))
    pq.write_table(pa.table({"url": ["http://a/2"]}), tmp_path / "block.parquet")
    made = listed(store, f"{web}/list.csv.gz?key=1", block_urls=[f"{web}/block.parquet?key=1"])
    assert made.totals["rejected"] == {"blocked_url": 1} and made.ledger.kept == 1


def test_a_list_whose_server_tells_no_length_is_read_from_its_first_byte(store: Store) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.command == "GET" and self.path == "/list.csv":
                self.wfile.write(b"url,caption\nhttp://a/1,One.\n")

        do_HEAD = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        made = listed(store, f"{address}/list.csv", f"{address}/empty.csv")
        assert (made.ledger.kept, made.totals["empty_files"]) == (1, 1)
    finally:
        server.shutdown()
        server.server_close()


def test_changed_lists_and_block_lists_change_the_pin(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,caption\nhttp://a/1,One.\n")
    (tmp_path / "block.txt").write_text("http://a/2\n")
    given = Parameters(source="x", paths=(str(tmp_path / "list.csv"),), block_urls=(str(tmp_path / "block.txt"),))
    seen = [pin(given).content_digest]
    for name in ("list.csv", "block.txt"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "http://a/3,Three.\n")
        seen.append(pin(given).content_digest)
    assert len(set(seen)) == 3 and None not in seen
