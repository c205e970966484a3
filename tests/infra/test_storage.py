import os
import pickle
import threading
from pathlib import Path

import pytest

from infra.storage import StorageError, Store


def test_write_read_and_list(any_store: Store) -> None:
    any_store.write("a/one.bin", b"1")
    any_store.write("a/b/two.bin", b"22")
    any_store.write("a/one.bin", b"111")
    assert any_store.read("a/one.bin") == b"111"
    assert any_store.size("a/b/two.bin") == 2
    assert any_store.keys("a") == ["a/b/two.bin", "a/one.bin"]
    assert any_store.keys() == ["a/b/two.bin", "a/one.bin"]
    assert any_store.folders("a") in (["b"], ["b", "one.bin"])
    with any_store.open("a/one.bin") as file:
        file.seek(1)
        assert file.read() == b"11"
    with any_store.local("a/b/two.bin") as path:
        assert path.read_bytes() == b"22"


def test_create_lets_the_first_writer_win(any_store: Store) -> None:
    assert any_store.create("marker", b"first")
    assert not any_store.create("marker", b"second")
    assert any_store.read("marker") == b"first"


def test_create_of_equal_bytes_is_a_success_because_the_first_reply_may_be_lost(any_store: Store) -> None:
    assert any_store.create("marker", b"same")
    assert any_store.create("marker", b"same")


def test_racing_writers_have_one_winner(store: Store) -> None:
    won: list[int] = []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        if store.create("marker", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("marker") == str(won[0]).encode()


def test_a_file_from_disk_is_published_whole(any_store: Store, tmp_path: Path) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(3_000_000))
    any_store.write("big", source)
    assert any_store.read("big") == source.read_bytes()
    assert any_store.create("marker", source)


def test_a_failed_write_leaves_the_old_file_and_no_litter(store: Store, tmp_path: Path) -> None:
    store.write("a/file", b"old")
    with pytest.raises(FileNotFoundError):
        store.write("a/file", tmp_path / "absent")
    assert store.read("a/file") == b"old"
    assert os.listdir(Path(store.root) / "a") == ["file"]


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a/../../b", "", "a\0b"])
def test_keys_stay_inside_the_root(any_store: Store, key: str) -> None:
    with pytest.raises(StorageError, match="inside the store"):
        any_store.write(key, b"x")


def test_remove_takes_a_file_a_folder_and_nothing(any_store: Store) -> None:
    any_store.write("a/one", b"1")
    any_store.write("a/two", b"2")
    any_store.remove("a/one")
    assert any_store.keys() == ["a/two"]
    any_store.remove("a")
    any_store.remove("never")
    assert any_store.keys() == []


def test_an_unwritable_root_is_named_with_the_next_move(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    with pytest.raises(StorageError, match="INTERNVL_STORE"):
        Store(str(blocker / "store")).check()


def test_a_pickled_store_holds_no_secret(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    s3_store.write("a", b"1")
    assert b"canary-secret" not in pickle.dumps(s3_store)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(StorageError, match="s3://"):
        Store("ftp://host/x")


def test_a_range_of_a_file_is_read(any_store: Store) -> None:
    any_store.write("a/numbers.bin", bytes(range(100)))
    assert any_store.read_range("a/numbers.bin", 10, 14) == bytes([10, 11, 12, 13])
    assert any_store.read_range("a/numbers.bin", 98, 120) == bytes([98, 99])
