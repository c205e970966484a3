"""Finding, recognising, counting and checking of a benchmark's data."""

import os
import time
from pathlib import Path

import pytest
from layouts import as_json, class_folders, described, lay, picture
from PIL import Image

from stages.evaluations.data import find_place, open_examples, what_to_fetch
from stages.evaluations.data.dataset import Dataset, Unreadable
from stages.evaluations.data.hashing import Hashes
from stages.evaluations.data.opening import READERS, chosen
from stages.evaluations.registry import Format
from stages.manifest import ManifestError

FOLDERS = described("folder")


def digest(place: Path) -> str:
    return open_examples(FOLDERS, place).digest


def test_the_digest_is_of_bytes_names_and_truths_and_not_of_the_place(tmp_path: Path) -> None:
    first, second = (class_folders(tmp_path / name) for name in ("a", "b"))
    told = digest(first)
    assert told == digest(second) and len(told) == 64
    (second / "test/red/0.png").write_bytes(picture("red", (13, 8)))
    changed = digest(second)
    (second / "test/red/0.png").rename(second / "test/red/7.png")
    renamed = digest(second)
    (second / "test/red/7.png").rename(second / "test/blue/7.png")
    moved = digest(second)
    (second / "classes.txt").write_text("blue\tb\ngreen\tg\nred\tr\n")
    assert len({told, changed, renamed, moved, digest(second)}) == 5


def test_the_digest_knows_the_order(tmp_path: Path) -> None:
    lay(tmp_path, {"a.png": picture(), "b.png": picture("blue")})
    pairs = [{"image": "a.png", "caption": "A."}, {"image": "b.png", "caption": "B."}]
    lists = described("karpathy", protocol="retrieval")
    (tmp_path / "test.json").write_text(as_json(pairs))
    told = open_examples(lists, tmp_path).digest
    (tmp_path / "test.json").write_text(as_json(pairs[::-1]))
    assert open_examples(lists, tmp_path).digest != told


def test_hashes_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, cache = class_folders(tmp_path / "set"), tmp_path / "cache"
    read: list[Path] = []
    real = Hashes._of

    def counted(self: Hashes, path: Path) -> str:
        before = len(self._known)
        found = real(self, path)
        if len(self._known) > before:
            read.append(path)
        return found

    monkeypatch.setattr(Hashes, "_of", counted)
    # Files that have just been written are not remembered: they may change within the same tick.
    first = open_examples(FOLDERS, place, cache=cache).digest
    assert not read
    now = time.time()
    monkeypatch.setattr("stages.evaluations.data.hashing.time.time", lambda: now + 60)
    assert open_examples(FOLDERS, place, cache=cache).digest == first and len(read) == 6
    assert open_examples(FOLDERS, place, cache=cache).digest == first and len(read) == 6
    changed = place / "test/red/0.png"
    before = changed.stat()
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Length and date of change are as before, and still the change is seen.
    assert open_examples(FOLDERS, place, cache=cache).digest != first
    for file in cache.glob("hashes-*.json"):
        file.write_text("{")
    assert open_examples(FOLDERS, place, cache=cache).digest != first


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    place = class_folders(tmp_path / "set")
    lay(place, {"test/red/cut.png": picture()[:40], "test/red/text.jpg": "no picture", "test/red/empty.png": ""})
    found = open_examples(FOLDERS, place, cache=tmp_path / "cache")
    assert len(found) == 6 and sorted(found.unreadable) == ["red/cut.png", "red/empty.png", "red/text.jpg"]
    assert "3 of 9 examples cannot be read and are left out" in found.notes[0] and "not_image" in found.notes[0]
    again = open_examples(FOLDERS, place, cache=tmp_path / "cache")
    assert again.unreadable == found.unreadable and again.digest == found.digest
    assert found.digest == digest(class_folders(tmp_path / "whole"))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    lay(tmp_path, {"test/red/a.jpg": "no picture"})
    with pytest.raises(
        ManifestError,
        match=r"\S+: none of the 1 examples can be shown; the first: red/a.jpg is no picture.* --data DIR",
    ):
        open_examples(FOLDERS, tmp_path)


def test_another_number_of_examples_is_told_unless_a_limit_is_set(tmp_path: Path) -> None:
    place = class_folders(tmp_path)
    counted = described("folder", examples=50_000)
    assert open_examples(counted, place).notes == ["A little set has 50,000 examples, 6 were found"]
    assert open_examples(counted, place, limit=2).notes == [] and open_examples(FOLDERS, place).notes == []
    assert "the data are not those" in open_examples(described("folder", sha256="0" * 64), place).notes[0]
    assert open_examples(described("folder", sha256=digest(place)), place).notes == []


def test_a_limit_takes_the_same_examples_whatever_else_there_is(tmp_path: Path) -> None:
    keys = [(f"k{number}", f"k{number}") for number in range(100)]
    taken = chosen(keys, 10)
    assert len(taken) == 10 and taken == sorted(taken) and taken != list(range(10))
    assert {keys[number] for number in taken} == {keys[::-1][number] for number in chosen(keys[::-1], 10)}
    assert set(taken) <= set(chosen(keys, 20)) and chosen(keys, 1000) == list(range(100))
    # Of examples that lie without those not taken, the same would be taken.
    rest = [key for number, key in enumerate(keys) if number in taken or number % 2]
    assert {keys[number] for number in taken} == {rest[number] for number in chosen(rest, 10)}
    found = open_examples(FOLDERS, class_folders(tmp_path, each=8), limit=5)
    assert len(found) == 5 and len(set(found.key(number) for number in range(5))) == 5


def test_groups_stay_together() -> None:
    keys = [(f"{number}", f"picture {number // 2}") for number in range(40)]
    taken = chosen(keys, 9)
    assert len(taken) == 8 and all(number ^ 1 in taken for number in taken)
    assert len(chosen(keys, 1)) == 2


def test_missing_data_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as error:
        open_examples(FOLDERS, tmp_path / "nowhere")
    for part in (
        "Fetch little.zip",
        "https://example.org",
        "ours",
        "val/<class>/*.jpg",
        "DIR/little",
        "--at little=PATH",
    ):
        assert part in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"\(empty\) is in no layout .*Fetch little.zip"):
        open_examples(FOLDERS, tmp_path / "empty")
    class_folders(tmp_path / "set")
    with pytest.raises(ManifestError, match=r"has no train split; put it into .*Fetch little.zip"):
        open_examples(FOLDERS, tmp_path / "set", split="train")
    class_folders(tmp_path / "only", split="train")
    with pytest.raises(ManifestError, match="has no test split"):
        open_examples(FOLDERS, tmp_path / "only")


@pytest.mark.parametrize("format", list(READERS))
def test_every_layout_is_told(format: Format) -> None:
    assert READERS[format].layout in what_to_fetch(described(format))


def test_data_are_found_below_the_folder_or_where_the_user_says(tmp_path: Path) -> None:
    assert find_place(FOLDERS, None) is None and find_place(FOLDERS, tmp_path) is None
    lay(tmp_path, {"little.parquet": "", "other/x": ""})
    assert find_place(FOLDERS, tmp_path) == tmp_path / "little.parquet"
    (tmp_path / "little").mkdir()
    assert find_place(FOLDERS, tmp_path) == tmp_path / "little"
    assert find_place(described("folder", place="other"), tmp_path) == tmp_path / "other"
    assert find_place(FOLDERS, tmp_path, {"little": tmp_path / "there"}) == tmp_path / "there"


def test_two_examples_of_one_name_are_refused(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "a.png": picture(),
            "q.json": as_json([{"image": "a.png", "question": "What?", "answer": "x", "id": 1}] * 2),
        },
    )
    found = open_examples(described("vqa_json", protocol="dialogue"), tmp_path)
    assert [found.key(number) for number in range(2)] == ["1", "1#2"]
    lay(tmp_path / "t", {"test/labels.csv": "file,class_name\na.png,x\na.png,y\n", "test/a.png": picture()})
    with pytest.raises(ManifestError, match=r"two examples of .* are called 'a.png'"):
        open_examples(FOLDERS, tmp_path / "t")


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    open_examples(FOLDERS, class_folders(tmp_path), cache=tmp_path / "c", progress=lambda *each: told.append(each))
    assert (6, 6, "examples hashed") in told and (6, 6, "pictures checked") in told


def test_a_picture_that_could_not_be_read_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, cache = class_folders(tmp_path / "data"), tmp_path / "cache"
    right = Dataset.pictures

    def fails(dataset: Dataset, number: int, frames: int = 1) -> list[Image.Image]:
        if number == 0:
            raise Unreadable("the disk is away")
        return right(dataset, number, frames)

    monkeypatch.setattr(Dataset, "pictures", fails)
    assert list(open_examples(FOLDERS, place, cache=cache).unreadable.values()) == ["the disk is away"]
    monkeypatch.setattr(Dataset, "pictures", right)
    assert open_examples(FOLDERS, place, cache=cache).unreadable == {}
    monkeypatch.setattr(Dataset, "pictures", fails)
    assert open_examples(FOLDERS, place, cache=cache).unreadable == {}, "what can be shown is not looked at again"


def test_data_that_are_not_those_that_were_published_are_noted(tmp_path: Path) -> None:
    place = class_folders(tmp_path)
    same = FOLDERS.model_copy(update={"sha256": digest(place)})
    assert open_examples(same, place).notes == []
    (place / "test/red/0.png").write_bytes(picture("red", (13, 8)))
    assert open_examples(same, place).notes == [
        f"the data are not those that were published: digest {digest(place)[:12]}"
    ]
