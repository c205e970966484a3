"""Pictures and masks in folders beside one another."""

from pathlib import Path

import pytest
from layouts import described, lay, mask, picture

from stages.evaluations.data import open_examples
from stages.evaluations.data.dataset import Unreadable
from stages.manifest import ManifestError

ADE = described("segmentation_folders", protocol="segmentation", reading={"first_class": 1, "ignore": [0, 255]})


def ade20k(place: Path) -> Path:
    for split in ("training", "validation"):
        files = {
            f"images/{split}/a.jpg": picture(size=(2, 2), kind="JPEG"),
            f"annotations/{split}/a.png": mask([[0, 1], [2, 255]]),
        }
        lay(place, files)
    return lay(
        place,
        {
            "objectInfo150.txt": "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
            "1\t.1\t1\t1\t1\twall\n2\t.1\t1\t1\t1\tbuilding, edifice\n"
        },
    )


def test_ade20ks_layout_counts_from_one(tmp_path: Path) -> None:
    found = open_examples(ADE, ade20k(tmp_path))
    assert found.classes == ("wall", "building") and found.mask(0).tolist() == [[255, 0], [1, 255]]
    assert len(found.training()) == 1


def test_other_layouts(tmp_path: Path) -> None:
    seg = described("segmentation_folders", protocol="segmentation", class_names=["a", "b", "c"])
    lay(tmp_path / "x", {"images/s/a.png": picture(size=(2, 1)), "masks/s/a.png": mask([[0, 2]])})
    assert open_examples(seg, tmp_path / "x").mask(0).tolist() == [[0, 2]]
    lay(tmp_path / "y", {"test/images/a.png": picture(size=(2, 1)), "test/masks/a.png": mask([[255, 1]])})
    assert open_examples(seg, tmp_path / "y").key(0) == "a.png"
    with pytest.raises(ManifestError, match="has no train split"):
        open_examples(seg, tmp_path / "y").training()
    (tmp_path / "x/masks/s/a.png").unlink()
    with pytest.raises(ManifestError, match="has no mask"):
        open_examples(seg, tmp_path / "x")


def test_odd_masks_are_named(tmp_path: Path) -> None:
    names = ("colour", "foreign", "large", "jpeg", "whole")
    lay(tmp_path, {f"images/{name}.png": picture(size=(2, 1)) for name in names})
    lay(
        tmp_path,
        {
            "masks/colour.png": picture(size=(2, 1)),
            "masks/foreign.png": mask([[0, 9]]),
            "masks/large.png": mask([[0, 0, 0]]),
        },
    )
    lay(tmp_path, {"masks/jpeg.png": picture(size=(2, 1), kind="JPEG"), "masks/whole.png": mask([[0, 1]])})
    seg = described("segmentation_folders", protocol="segmentation", class_names=["a", "b"])
    found = open_examples(seg, tmp_path)
    assert [found.key(number) for number in range(len(found))] == ["whole.png"]
    told = {
        "colour": "is in colour",
        "foreign": "has the value 9, but there are 2 classes",
        "large": "is (3, 1)",
        "jpeg": "masks are PNG",
    }
    assert all(says in found.unreadable[f"{name}.png"] for name, says in told.items())
    assert issubclass(Unreadable, ManifestError)


def test_classes_have_to_be_named(tmp_path: Path) -> None:
    lay(tmp_path, {"images/a.png": picture(size=(2, 1)), "masks/a.png": mask([[0, 2]])})
    with pytest.raises(ManifestError, match="does not name its classes"):
        open_examples(described("segmentation_folders", protocol="segmentation"), tmp_path)
    lay(tmp_path, {"classes.txt": "a\nb\nc\n"})
    assert open_examples(ADE, tmp_path).mask(0).tolist() == [[255, 1]]
