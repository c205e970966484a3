"""Pictures in one folder per class, or in a list of files and labels."""

import os
from pathlib import Path

import pytest
from layouts import as_json, class_folders, described, lay, picture

from stages.evaluations.data import open_examples
from stages.manifest import ManifestError

FOLDERS = described("folder")


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = open_examples(FOLDERS, class_folders(tmp_path))
    assert found.classes == ("blue", "green", "red")
    assert [found.key(number) for number in (0, 5)] == ["blue/0.png", "red/1.png"]
    assert [found.label(number) for number in range(len(found))] == [0, 0, 1, 1, 2, 2]
    assert found.pictures(5)[0].getpixel((0, 0)) == (210, 20, 20) and found.captions(0) == ()


def test_numbered_folders_count_as_numbers_and_both_splits_share_their_classes(tmp_path: Path) -> None:
    lay(tmp_path, {f"val/{name}/a.jpg": picture(kind="JPEG") for name in ("0", "9", "10")})
    lay(tmp_path, {"train/2/b.jpg": picture(kind="JPEG"), "train/10/b.jpg": picture(kind="JPEG")})
    found = open_examples(FOLDERS, tmp_path)
    assert found.classes == ("0", "2", "9", "10") and [found.label(number) for number in range(3)] == [0, 2, 3]
    assert [found.training().label(number) for number in range(2)] == [1, 3]
    with pytest.raises(ManifestError, match="itself what heads are trained on"):
        found.training().training()


def test_classes_are_named_in_a_file(tmp_path: Path) -> None:
    lay(class_folders(tmp_path), {"classes.txt": "red\tcrimson\nblue\tnavy\ngreen\tlime\nblack\tblack\n"})
    found = open_examples(FOLDERS, tmp_path)
    assert found.classes == ("crimson", "navy", "lime", "black") and found.class_ids[0] == "red"
    assert found.label(0) == 0 and found.key(0) == "red/0.png"
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    with pytest.raises(ManifestError, match="does not name the class folder 'green'"):
        open_examples(FOLDERS, tmp_path)


def test_a_list_says_the_classes_of_files_in_any_folders(tmp_path: Path) -> None:
    lay(tmp_path, {"test/a/1.png": picture("red"), "test/b/2.png": picture("blue")})
    lay(tmp_path, {"test/labels.csv": "file,class_name\na/1.png,cat\nb/2.png,ant\n"})
    found = open_examples(FOLDERS, tmp_path)
    assert found.classes == ("ant", "cat") and [found.label(number) for number in range(2)] == [1, 0]
    (tmp_path / "classes.txt").write_text("cat\nant\n")
    (tmp_path / "test/labels.csv").write_text("file,label\na/1.png,0\nb/2.png,7\n")
    with pytest.raises(ManifestError, match=r"gives b/2.png the class '7', which is none of the 2"):
        open_examples(FOLDERS, tmp_path)


def test_a_list_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    lay(tmp_path, {"secret.png": picture(), "set/test/a.png": picture("blue")})
    lay(tmp_path, {"set/test/labels.csv": "file,class_name\na.png,x\n../../secret.png,y\n/etc/passwd,y\n"})
    found = open_examples(FOLDERS, tmp_path / "set")
    assert len(found) == 1 and set(found.unreadable) == {"../../secret.png", "/etc/passwd"}


def test_a_link_that_leads_above_itself_ends(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "test/red/loop").symlink_to(tmp_path / "test")
    (tmp_path / "test/blue/self").symlink_to(tmp_path / "test/blue/self")
    (tmp_path / "elsewhere").mkdir()
    lay(tmp_path / "elsewhere", {"a.png": picture("green")})
    (tmp_path / "test/green/linked").symlink_to(tmp_path / "elsewhere")
    found = open_examples(FOLDERS, tmp_path)
    keys = [found.key(number) for number in range(len(found))]
    assert "green/linked/a.png" in keys and "blue/0.png" in keys and len(keys) < 20


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    Path(os.fsdecode(bytes(tmp_path / "test/red") + b"/\xff.png")).write_bytes(picture())
    with pytest.raises(ManifestError, match="which is no UTF-8; rename its file"):
        open_examples(FOLDERS, tmp_path)


def test_several_classes_can_be_right(tmp_path: Path) -> None:
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3)]
    lay(tmp_path, {f"val/n0{number}/{name}": picture(kind="JPEG") for number, name in enumerate(names)})
    lay(tmp_path, {"real.json": as_json([[2, 0], [], [2]])})
    found = open_examples(FOLDERS, tmp_path)
    assert [found.key(number) for number in range(2)] == [f"n00/{names[0]}", f"n02/{names[2]}"]
    assert [found.right_labels(number) for number in range(2)] == [(2, 0), (2,)]
    (tmp_path / "real.json").write_text("[[1]]")
    with pytest.raises(ManifestError, match="has no number for which"):
        open_examples(FOLDERS, tmp_path)


def test_other_classes_than_the_benchmarks_are_refused_and_strays_are_told(tmp_path: Path) -> None:
    lay(class_folders(tmp_path), {"test/stray.png": picture()})
    assert "1 pictures lie beside the class folders" in open_examples(FOLDERS, tmp_path).notes[0]
    with pytest.raises(ManifestError, match="has 3 classes, not the 4 of A little set"):
        open_examples(described("folder", classes=4), tmp_path)


def test_a_probe_learns_from_another_benchmark_that_lies_beside(tmp_path: Path) -> None:
    class_folders(tmp_path / "little")
    asked = described("folder", trained_on="cifar10", classes=3)
    with pytest.raises(ManifestError, match=r"heads for A little set are trained on CIFAR-10: .*--at cifar10=PATH"):
        open_examples(asked, tmp_path / "little").training()
    lay(tmp_path / "cifar10", {f"train/{number}/a.png": picture() for number in range(10)})
    assert len(open_examples(asked, tmp_path / "little").training()) == 10
