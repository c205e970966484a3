"""Pictures with captions in a list beside them."""

from pathlib import Path
from typing import Any

import pytest
from layouts import as_json, described, lay, picture

from stages.evaluations.data import open_examples
from stages.manifest import ManifestError

LISTS = described("karpathy", protocol="retrieval")
KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "split": split,
            "filepath": "val2014",
            "filename": f"{name}.jpg",
            "sentences": [{"raw": f" {name} 1"}, {"raw": f"{name} 2"}],
        }
        for split, name in (("test", "a"), ("restval", "b"), ("val", "c"), ("train", "d"))
    ],
}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}, {"id": 3, "file_name": "none.jpg"}],
    "annotations": [
        {"image_id": 1, "caption": "A 1"},
        {"image_id": 2, "caption": "B 1 "},
        {"image_id": 1, "caption": "A 2"},
    ],
}


def with_pictures(place: Path, names: str = "abcd", folder: str = "val2014/") -> Path:
    return lay(place, {f"{folder}{name}.jpg": picture(kind="JPEG") for name in names})


def said(place: Path, split: Any = "test", language: str = "en") -> dict[str, tuple[str, ...]]:
    found = open_examples(LISTS, place, split=split, language=language)
    return {found.key(number): tuple(found.captions(number)) for number in range(len(found))}


def test_karpathys_splits(tmp_path: Path) -> None:
    lay(with_pictures(tmp_path), {"dataset_coco.json": as_json(KARPATHY)})
    assert said(tmp_path) == {"val2014/a.jpg": ("a 1", "a 2")}
    assert list(said(tmp_path, "train")) == ["val2014/b.jpg", "val2014/d.jpg"]
    assert said(tmp_path / "dataset_coco.json") == said(tmp_path)


def test_cocos_annotations_and_pictures_in_other_folders(tmp_path: Path) -> None:
    lay(with_pictures(tmp_path, folder="deep/er/"), {"annotations/captions_val2014.json": as_json(COCO)})
    assert said(tmp_path) == {"a.jpg": ("A 1", "A 2"), "b.jpg": ("B 1",)}


def test_pairs_and_lines(tmp_path: Path) -> None:
    with_pictures(tmp_path)
    pairs = [
        {"image": "a.jpg", "caption": ["A", "AA"]},
        {"image": "b.jpg", "caption": "B"},
        {"image": "a.jpg", "caption": "AAA"},
    ]
    (tmp_path / "list.json").write_text(as_json(pairs))
    assert said(tmp_path) == {"a.jpg": ("A", "AA", "AAA"), "b.jpg": ("B",)}
    (tmp_path / "list.json").unlink()
    (tmp_path / "test.txt").write_text(
        'image,caption\na.jpg,Red, and round\na.jpg,"He said ""no"", twice"\n\n', "utf-8-sig"
    )
    assert said(tmp_path) == {"a.jpg": ("Red, and round", 'He said "no", twice')}


def test_xtd_has_a_file_per_language(tmp_path: Path) -> None:
    with_pictures(tmp_path, "ab")
    lay(
        tmp_path,
        {
            "test_image_names.txt": "a.jpg\nb.jpg\n",
            "test_1kcaptions_it.txt": "uno\ndue\n",
            "test_1kcaptions_jp.txt": "一\n二\n",
        },
    )
    assert said(tmp_path, language="it") == {"a.jpg": ("uno",), "b.jpg": ("due",)}
    assert said(tmp_path, language="ja")["b.jpg"] == ("二",)
    with pytest.raises(ManifestError, match=r"no captions in ko; put XTD's test_1kcaptions_ko.txt"):
        said(tmp_path, language="ko")
    (tmp_path / "test_1kcaptions_it.txt").write_text("uno\n")
    with pytest.raises(ManifestError, match=r"1 captions for 2 pictures"):
        said(tmp_path, language="it")


def test_the_list_of_the_split_and_language_is_taken(tmp_path: Path) -> None:
    with_pictures(tmp_path)
    for name in ("captions_train", "captions_test", "captions_test_zh"):
        (tmp_path / f"{name}.json").write_text(as_json([{"image": "a.jpg", "caption": name}]))
    assert said(tmp_path, language="zh")["a.jpg"] == ("captions_test_zh",)
    assert said(tmp_path, "train")["a.jpg"] == ("captions_train",)
    with pytest.raises(ManifestError, match=r"found captions_test.json, captions_test_zh.json: keep one, or name it"):
        said(tmp_path)


def test_missing_pictures_are_named_and_ambiguous_ones_refused(tmp_path: Path) -> None:
    lay(
        with_pictures(tmp_path, "a"),
        {"t.json": as_json([{"image": name, "caption": "x"} for name in ("a.jpg", "z.jpg")])},
    )
    found = open_examples(LISTS, tmp_path)
    assert len(found) == 1 and "z.jpg cannot be read: No such file" in found.unreadable["z.jpg"]
    lay(tmp_path, {"other/a.jpg": picture(kind="JPEG")})
    with pytest.raises(ManifestError, match=r"'a.jpg' may be other/a.jpg or val2014/a.jpg"):
        open_examples(LISTS, tmp_path)


def test_a_list_without_its_pictures_says_where_they_go(tmp_path: Path) -> None:
    lay(tmp_path, {"dataset_coco.json": as_json(KARPATHY)})
    said = (
        r"none of the 1 files that \S+ lists lies beside or below the list, the first of them being a.jpg; put them"
    )
    for place in (tmp_path, tmp_path / "dataset_coco.json"):
        with pytest.raises(ManifestError, match=rf"{said}.* into DIR/little and give --data DIR"):
            open_examples(LISTS, place)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "has none of the known forms"),
        ('{"images": 3}', "has none of the known forms"),
        ('[{"image": "a.jpg"}]', "KeyError: 'caption'"),
        ('[1, 2]', "has none of the known forms"),
        ("[", "is neither JSON nor JSON lines"),
        ("[" * 100_000, "is neither JSON nor JSON lines"),
        ("", "is neither JSON nor JSON lines|is empty"),
        ('{"images": [{"split": "train", "filename": "a", "sentences": []}]}', "has no picture of the split test"),
    ],
)  # fmt: skip
def test_odd_lists_are_refused(tmp_path: Path, text: str, says: str) -> None:
    lay(with_pictures(tmp_path), {"test.json": text})
    with pytest.raises(ManifestError, match=says):
        open_examples(LISTS, tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a.jpg,x\n", "does not begin with image,caption"), ("image,caption\na.jpg\n", "line 2 .* has no caption")],
)
def test_odd_lines_are_refused(tmp_path: Path, text: str, says: str) -> None:
    lay(with_pictures(tmp_path), {"test.csv": text})
    with pytest.raises(ManifestError, match=says):
        open_examples(LISTS, tmp_path)
