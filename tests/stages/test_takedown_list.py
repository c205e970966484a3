"""Entries are known by their look or by their word; nobody who is listed is shown or can be read from the store."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from stages.manifest import ManifestError
from stages.shard_index import INDEX
from stages.sources.identity import url_id_of
from stages.takedown_list import FOLDER, Takedown, load_lists, read_list, register, registered

SECRET = "https://private.example.org/me.jpg"


def entries(tmp_path: Path, text: str) -> Takedown:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return read_list(str(path))


def table(**known: object) -> pa.Table:
    hashed = {"sha256": bytes(32), "body_sha256": bytes(32), "url_id": bytes(16), "phash": 7}
    return pa.Table.from_pylist([{"uid": bytes(16), **hashed, "host": "", "source": "x", **known}], schema=INDEX)


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        (SECRET, "url", url_id_of(SECRET)),
        ("HTTPS://Private.Example.org:443/me.jpg#x", "url", url_id_of(SECRET)),
        (f"url:{SECRET}", "url", url_id_of(SECRET)),
        ("AB" * 16, "uid", b"\xab" * 16),
        ("uid: " + "ab" * 16, "uid", b"\xab" * 16),
        ("Sha256:" + "cd" * 32, "sha256", b"\xcd" * 32),
        ("cd" * 32, "sha256", b"\xcd" * 32),
        ("0123456789abcdef", "phash", bytes.fromhex("0123456789abcdef")),
        ("*.Example.COM.", "domain", hashlib.sha256(b"example.com").digest()),
        ("domain:bücher.de", "domain", hashlib.sha256(b"xn--bcher-kva.de").digest()),
        ("domain:0123456789abcdef", "domain", hashlib.sha256(b"0123456789abcdef").digest()),
        ("domain:localhost", "domain", hashlib.sha256(b"localhost").digest()),
        ("163.com", "domain", hashlib.sha256(b"163.com").digest()),
        ("192.0.2.7", "domain", hashlib.sha256(b"192.0.2.7").digest()),
        ("2001:DB8::7", "domain", hashlib.sha256(b"2001:db8::7").digest()),
        ("phash:1234567890123456", "phash", bytes.fromhex("1234567890123456")),
    ],
)
def test_entries_of_every_kind(tmp_path: Path, line: str, kind: str, value: bytes) -> None:
    found = entries(tmp_path, f"# a remark\n\n  {line}  \n")
    assert found.counts() == {kind: 1} and found.of(kind) == {value} and len(found) == 1


@pytest.mark.parametrize(
    "line", ["uid:abcd", "sha256:xyz", "phash:12", "url:no address", "a b", "ex/ample", "domain:"]
)
def test_a_line_that_is_none_of_them_is_named_by_number_and_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ManifestError, match=r"list\.txt line 2 is no") as error:
        entries(tmp_path, f"example.com\n{line}\n")
    assert "entries are uid:32 hex digits" in str(error.value)
    assert line.partition(":")[2] == "" or line not in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["12345678901234567890", "1234567890123456", "a" * 31, "cd" * 31, "localhost", "12.5", "1.2.3.456", "ab:cd"],
)
def test_a_mistyped_number_or_hash_is_no_domain(tmp_path: Path, line: str) -> None:
    with pytest.raises(ManifestError, match=r"list\.txt line 2 is no") as error:
        entries(tmp_path, f"example.com\n{line}\n")
    assert line not in str(error.value)


@pytest.mark.parametrize("kind", [pa.uint64(), pa.float64()])
def test_parquet_of_numbers_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"phash": pa.array([7, 8], kind)}), path := tmp_path / "list.parquet")
    with pytest.raises(ManifestError, match=rf"list\.parquet: its first column holds {kind}, not text or bytes"):
        read_list(str(path))


def test_parquet_of_text_and_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"what": [SECRET, None, "example.com"], "why": ["a", "b", "c"]}), path)
    assert read_list(str(path)).counts() == {"url": 1, "domain": 1}
    pq.write_table(pa.table({"uid": pa.array([b"\xab" * 16], pa.binary(16))}), path)
    assert read_list(str(path)).of("uid") == {b"\xab" * 16}
    pq.write_table(pa.table({"phash": [b"\x12" * 8]}), path)
    assert read_list(str(path)).of("phash") == {b"\x12" * 8}


def test_lists_that_cannot_be_read_or_are_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"absent.txt cannot be read: there is no such file"):
        read_list(str(tmp_path / "absent.txt"))
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(ManifestError, match=r"bad\.parquet cannot be read"):
        read_list(str(tmp_path / "bad.parquet"))
    with pytest.raises(ManifestError, match="names nothing; give one entry a line"):
        entries(tmp_path, "# only a remark\n")


BELOW = ("example.com", "a.b.example.com", "example.com.")
BESIDE = ("ample.com", "com", "notexample.com", "example.com.org", "", None)


@pytest.mark.parametrize(("host", "found"), [*((each, True) for each in BELOW), *((each, False) for each in BESIDE)])
def test_a_domain_names_all_below_it_and_nothing_beside(tmp_path: Path, host: str | None, found: bool) -> None:
    kinds = entries(tmp_path, "example.com").kinds(table(host=host), "x")
    assert kinds == (["domain"] if found else [None])


def test_pictures_are_found_by_what_the_web_sent_and_by_what_is_stored(tmp_path: Path) -> None:
    given = entries(tmp_path, "cd" * 32)
    for column in ("sha256", "body_sha256"):
        assert given.kinds(table(**{column: b"\xcd" * 32}), "x") == ["sha256"]
    assert given.kinds(table(), "x") == [None]
    with pytest.raises(ManifestError, match=r"by sha256, and x does not know the body_sha256, the hash of"):
        given.kinds(table(body_sha256=None), "x")
    assert entries(tmp_path, f"phash:{2**63 + 1:016x}").kinds(table(phash=2**63 + 1), "x") == ["phash"]


def test_a_sample_that_several_entries_name_is_counted_once(tmp_path: Path) -> None:
    given = entries(tmp_path, f"example.com\n{SECRET}\n{'00' * 16}\n{'00' * 32}")
    row = {"host": "example.com", "url_id": url_id_of(SECRET)}
    assert given.kinds(table(**row), "x") == ["uid"]
    assert given.kinds(table(uid=b"1" * 16, **row), "x") == ["url"]


@pytest.mark.parametrize(
    ("line", "column"), [("example.com", "url_id"), (SECRET, "url_id"), ("0123456789abcdef", "phash")]
)
def test_what_is_not_known_is_no_miss(tmp_path: Path, line: str, column: str) -> None:
    with pytest.raises(
        ManifestError, match=rf"shard 7 does not know the {column} of 1 samples.*name these samples by"
    ):
        entries(tmp_path, line).kinds(table(**{column: None}), "shard 7")
    assert entries(tmp_path, f"{'ab' * 16}\n{'ab' * 32}").kinds(table(**{column: None}), "shard 7") == [None]


def test_a_list_in_the_store_is_kept_once_names_nobody_and_damage_is_seen(tmp_path: Path, any_store: Store) -> None:
    assert registered(any_store) == ()
    given = entries(tmp_path, f"{SECRET}\nprivate.example.org\n{'ab' * 16}\n")
    key = register(any_store, given)
    assert register(any_store, given) == key and registered(any_store) == (key,)
    other = register(any_store, entries(tmp_path, "cd" * 32))
    both = load_lists(any_store, registered(any_store))
    assert both.counts() == {"uid": 1, "url": 1, "domain": 1, "sha256": 1}
    assert both.of("url") == given.of("url") and other != key and other.startswith(FOLDER)
    data = any_store.read(key)
    assert b"private" not in data and b"example" not in data
    any_store.write(key, data[:-1] + b"x")
    with pytest.raises(ManifestError, match=r"takedown list .* is damaged; register"):
        load_lists(any_store, (key,))
