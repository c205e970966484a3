"""Tars in CLIP_benchmark's layout, and tars of captions, questions, masks and videos."""

import gzip
from pathlib import Path

import pytest
from layouts import COLOURS, as_json, described, lay, mask, picture, tar

from stages.evaluations.base import Question
from stages.evaluations.data import open_examples
from stages.manifest import ManifestError

TARS = described("webdataset")


def classed(place: Path) -> Path:
    """Write two tars of three pictures each."""
    for number in range(2):
        files: dict[str, bytes | str] = {}
        for label, colour in enumerate(COLOURS):
            files |= {f"s{label}.webp": picture(colour, kind="WEBP"), f"s{label}.cls": f"{label}\n"}
        tar(place / f"test/{number}.tar", files)
    return lay(
        place,
        {
            "test/nshards.txt": "2\n",
            "classnames.txt": "blue\ngreen\nred\n",
            "zeroshot_classification_templates.txt": "a {c} plate\n\na {c} wall\n",
            "dataset_type.txt": "classification\n",
        },
    )


def test_clip_benchmarks_layout(tmp_path: Path) -> None:
    found = open_examples(TARS, classed(tmp_path))
    assert (found.classes, found.templates) == (("blue", "green", "red"), ("a {c} plate", "a {c} wall"))
    assert [found.key(number) for number in (0, 5)] == ["0/s0", "1/s2"]
    assert [found.label(number) for number in range(6)] == [0, 1, 2] * 2
    assert found.pictures(0)[0].size == (12, 8)


def test_captions_come_one_a_line_or_in_json(tmp_path: Path) -> None:
    captions = described("webdataset", protocol="retrieval")
    tar(
        tmp_path / "test/0.tar",
        {"a.png": picture(), "a.txt": "One.\nTwo.\n", "b.png": picture("blue"), "b.txt": "B."},
    )
    found = open_examples(captions, tmp_path)
    assert [found.captions(number) for number in range(2)] == [("One.", "Two."), ("B.",)]
    one = tar(
        tmp_path / "one.tar",
        {
            "a.jpg": picture(kind="JPEG"),
            "a.txt": "One.",
            "a.json": as_json({"captions": ["One.", " Three "], "width": 3}),
        },
    )
    assert open_examples(captions, one).captions(0) == ("One.", "Three")


def test_questions_are_examples_of_their_own(tmp_path: Path) -> None:
    asked = [
        {"question": "How many?", "answer": "3", "question_type": "human"},
        {"question": "Which?", "answer": "red"},
    ]
    place = tar(tmp_path / "q.tar", {"a.png": picture(), "a.json": as_json({"qa": asked})})
    found = open_examples(described("webdataset", protocol="dialogue"), place)
    assert [found.key(number) for number in range(2)] == ["a#0", "a#1"]
    assert found.question(0) == Question("How many?", ("3",), (), "human") and found.pictures(1)[0].size == (12, 8)
    # Both questions about a picture stay together.
    assert len(open_examples(described("webdataset", protocol="dialogue"), place, limit=1)) == 2


def test_a_text_is_a_class_where_only_classes_are_measured(tmp_path: Path) -> None:
    place = tar(tmp_path / "c.tar", {"a.png": picture(), "a.txt": "red", "b.png": picture("blue"), "b.txt": "blue"})
    found = open_examples(TARS, place)
    assert found.classes == ("blue", "red") and [found.label(number) for number in range(2)] == [1, 0]
    with pytest.raises(ManifestError, match=r"nothing is asked about a"):
        found.question(0)
    with pytest.raises(ManifestError, match=r"a of .* has no mask"):
        found.mask(0)
    tar(place, {"a.png": picture(), "a.txt": "two\nlines"})
    with pytest.raises(ManifestError, match=r"a has no .cls, and its .txt is not the one line"):
        open_examples(TARS, place)


def test_masks(tmp_path: Path) -> None:
    seg = described("webdataset", protocol="segmentation", class_names=["a", "b"], reading={"ignore": [7]})
    place = tar(tmp_path / "m.tar", {"a.png": picture(size=(2, 2)), "a.mask.png": mask([[0, 1], [7, 1]])})
    assert open_examples(seg, place).mask(0).tolist() == [[0, 1], [255, 1]]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.png": picture(), "a.cls": "7"}, "a is of class '7', which is none of the 3"),
        ({"a.png": picture(), "a.cls": "-1"}, "a is of class '-1'"),
        ({"a.cls": "1"}, "a has no picture, only cls"),
        ({"a.png": picture(), "a.json": "{", "a.cls": "1"}, "a.json is no JSON"),
        ({"a.png": picture(), "a.cls": b"\xff\xfe"}, "is no whole, uncompressed tar"),
    ],
)
def test_odd_samples_are_refused_by_name(tmp_path: Path, files: dict[str, bytes | str], says: str) -> None:
    lay(tmp_path, {"classnames.txt": "blue\ngreen\nred\n"})
    tar(tmp_path / "test/0.tar", files)
    with pytest.raises(ManifestError, match=says):
        open_examples(TARS, tmp_path)


def test_incomplete_and_damaged_tars_are_refused(tmp_path: Path) -> None:
    place = classed(tmp_path)
    whole = (place / "test/1.tar").read_bytes()
    (place / "test/1.tar").unlink()
    with pytest.raises(ManifestError, match=r"has to have 2 tars by its nshards.txt; 1 are missing, first 1.tar"):
        open_examples(TARS, place)
    (place / "test/1.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(ManifestError, match=r"is no whole, uncompressed tar"):
        open_examples(TARS, place)
    (place / "test/1.tar").write_bytes(whole[:700])
    with pytest.raises(ManifestError, match=r"is no whole, uncompressed tar"):
        open_examples(TARS, place)
    (place / "test/1.tar").write_bytes(whole)
    (place / "test/0.tar").unlink()
    (place / "test/1.tar").unlink()
    with pytest.raises(ManifestError, match=r"2 are missing"):
        open_examples(TARS, place)


def test_links_and_hidden_members_are_passed_over(tmp_path: Path) -> None:
    import tarfile

    path = tar(tmp_path / "l.tar", {"a.png": picture(), "a.txt": "red", ".DS_Store": "x"})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("b.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert len(open_examples(TARS, path)) == 1
