"""Disks that are full, read-only, too small or not a folder: one clear sentence, nothing half-written to be seen."""

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import s3_objects
from infra.storage import Entry, StorageError, Store


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_file_that_does_not_fit_leaves_what_stood_and_nothing_else(store: Store, exclusive: bool) -> None:
    store.write("a/old", b"old")
    take = store.create if exclusive else store.write
    with (
        largest_file(10_000),
        pytest.raises(StorageError, match=r"did not take a/new: File too large.*ulimit -f.*same command"),
    ):
        take("a/new", b"x" * 50_000)
    assert [each.key for each in store.entries()] == ["a/old"], "not even a temporary file"
    with largest_file(10_000), pytest.raises(StorageError):
        store.write("a/old", b"y" * 50_000)
    assert store.read("a/old") == b"old"


def test_a_root_that_is_a_file_is_named_with_the_next_move(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StorageError, match=r"did not take a/b: .*directory.*INTERNVL_STORE"):
        Store(str(tmp_path / "store")).write("a/b", b"1")


def test_a_store_that_cannot_let_one_writer_win_is_refused(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    any_store.check()
    assert any_store.keys() == []
    write = Store._write
    monkeypatch.setattr(Store, "_write", lambda self, key, data, exclusive: write(self, key, data, False))
    with pytest.raises(StorageError, match=r"lets a second writer replace .*conditional writes"):
        any_store.check()


def test_a_disk_without_hard_links_is_said_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(StorageError, match="knows no hard links"):
        store.create("a", b"1")
    assert list(store.entries()) == []


def test_a_name_that_is_too_long_for_the_disk_is_named(store: Store) -> None:
    with pytest.raises(StorageError, match="too long"):
        store.write("x" * 300, b"1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_named(store: Store) -> None:
    store.write("a/b", b"1")
    os.chmod(Path(store.root) / "a", 0o500)
    with pytest.raises(StorageError, match="you may not write there"):
        store.write("a/c", b"1")


@pytest.mark.parametrize("key", ["a\nb", "a\x1b[31m", "a\x7f", "a/../b", "..", "/a", ""])
def test_keys_that_climb_or_hold_control_characters_are_refused_everywhere(store: Store, key: str) -> None:
    for ask in (store.read, store.exists, store.size, store.open, store.remove, store.sha256, store.touch):
        with pytest.raises(StorageError, match="inside the store"):
            ask(key)


@pytest.mark.parametrize("root", ["s3://bucket/../other", "s3://bucket/a\nb", "s3://", "s3:///", "a\0b"])
def test_roots_that_climb_or_name_nothing_are_refused(root: str) -> None:
    with pytest.raises(StorageError, match="store root"):
        Store(root)


def test_a_link_does_not_carry_a_change_out_of_the_root(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"1")
    store.write("pool/a", b"1")
    (Path(store.root) / "pool" / "x").symlink_to(outside)
    for change in (
        lambda: store.write("pool/x/new", b"1"),
        lambda: store.create("pool/x/new", b"1"),
        lambda: store.remove("pool/x/precious"),
        lambda: store.discard([Entry("pool/x/precious", 1, (outside / "precious").stat().st_mtime)]),
    ):
        with pytest.raises(StorageError, match=r"leads through a link to .*outside"):
            change()
    store.remove("pool")
    assert [path.name for path in outside.iterdir()] == ["precious"], "the link went, what it leads to did not"


def test_a_link_inside_the_root_is_followed(store: Store) -> None:
    store.write("here/a", b"1")
    (Path(store.root) / "there").symlink_to(Path(store.root) / "here")
    store.write("there/b", b"2")
    assert store.read("here/b") == b"2"


def test_what_changed_since_it_was_listed_is_not_discarded(any_store: Store) -> None:
    any_store.write("a", b"1")
    any_store.write("b", b"1")
    listed = {each.key: each for each in any_store.entries()}
    old = [Entry(each.key, each.bytes, each.modified - 5, each.upload) for each in listed.values()]
    assert any_store.discard(old) == []
    any_store.write("b", b"22")
    assert any_store.discard(listed.values()) == [listed["a"]]
    assert any_store.keys() == ["b"]


def test_touch_makes_a_file_young(store: Store) -> None:
    store.write("a", b"1")
    os.utime(Path(store.root) / "a", (1, 1))
    store.touch("a")
    (entry,) = store.entries()
    assert entry.modified > 1e9 and store.read("a") == b"1"


def test_the_time_is_told_by_the_disk_that_dates_the_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a", b"1")
    wrong = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: wrong)
    (entry,) = store.entries()
    assert 0 <= store.now() - entry.modified < 3600
    assert store.keys() == ["a"] and len(os.listdir(store.root)) == 1, "nothing is left of the question"
    assert Store(str(tmp_path / "not" / "there")).now() == wrong, "where nothing is dated our own clock has to do"


@pytest.mark.parametrize("limit", [5 << 30, 1000])
def test_touch_keeps_an_object(s3_store: Store, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(s3_objects, "COPIED_BYTES", limit)
    s3_store.write("a/b", b"1" * 5000)
    s3_store.touch("a/b")
    assert s3_store.read("a/b") == b"1" * 5000
    (entry,) = s3_store.entries()
    assert s3_store.now() - entry.modified < 60


def test_a_file_of_somebody_else_is_touched_by_a_copy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    store.write("a", b"1")
    before = os.stat(store.path("a")).st_ino
    monkeypatch.setattr("os.utime", refuse)
    store.touch("a")
    assert store.read("a") == b"1" and os.stat(store.path("a")).st_ino != before


def test_a_small_file_is_written_by_one_process_while_another_reads(store: Store) -> None:
    store.write("counter", b"0" * 1000)
    writer = subprocess.Popen(
        [sys.executable, "-c", f"from infra.storage import Store\ns = Store({store.root!r})\n"
         "for n in range(400): s.write('counter', str(n % 10).encode() * 1000)"],
        cwd=os.getcwd(),
    )  # fmt: skip
    seen = set()
    while writer.poll() is None:
        data = store.read("counter")
        assert len(data) == 1000 and len(set(data)) == 1, "never a mixture of two writes"
        seen.add(data[:1])
    assert writer.returncode == 0 and len(seen) > 1
