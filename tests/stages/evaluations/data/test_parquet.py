"""Parquet files with columns of the usual names, or of names that the description gives."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import described, lay, mask, picture

from stages.evaluations.base import Question
from stages.evaluations.data import open_examples, rows
from stages.manifest import ManifestError

TABLES = described("parquet")


def write(path: Path, columns: dict[str, list[Any]], groups: int = 2, names: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names:
        told = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, path, row_group_size=groups)
    return path


def labelled(path: Path) -> Path:
    colours = ("red", "blue", "red", "blue", "red")
    return write(
        path,
        {
            "image": [picture(colour, (12 + number, 8)) for number, colour in enumerate(colours)],
            "label": [1, 0, 1, 0, 1],
            "class_name": ["red", "blue", "red", "blue", "red"],
            "split": ["val", "val", "train", "test", "val"],
            "filename": [f"{number}.png" for number in range(5)],
        },
    )  # fmt: skip


def test_the_split_is_a_column(tmp_path: Path) -> None:
    path = labelled(tmp_path / "a.parquet")
    found = open_examples(TABLES, path)
    assert found.classes == ("blue", "red") and [found.key(number) for number in range(len(found))] == ["3.png"]
    assert found.training().key(0) == "2.png" and found.training().pictures(0)[0].size == (14, 8)


def test_rows_are_read_from_their_groups_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [picture("red", (10 + number, 8)) for number in range(7)]
    path = write(tmp_path / "a.parquet", {"image": pictures, "label": [0, 1] * 3 + [0]}, groups=3)
    found = open_examples(TABLES, path)
    order = [6, 0, 3, 2, 2, 5, 1, 4]
    assert [found.pictures(number)[0].size[0] - 10 for number in order] == order
    # As where a group is too large to hold: it is streamed, and read from its beginning for a row before.
    monkeypatch.setattr(rows, "_HELD", 0)
    monkeypatch.setattr(rows, "_BATCH", 2)
    streamed = open_examples(TABLES, path)
    assert [
        streamed.pictures(number)[0].size[0] - 10 for number in order
    ] == order and streamed.digest == found.digest
    assert found.key(0) == "a.parquet:0"


def test_hugging_faces_structs_and_class_names(tmp_path: Path) -> None:
    images = [{"bytes": picture("red"), "path": "x.png"}, {"bytes": None, "path": "y.png"}]
    write(tmp_path / "data/test-00000-of-00001.parquet", {"image": images, "label": [2, 0]}, names=["a", "b", "c"])
    write(
        tmp_path / "data/train-00000-of-00001.parquet",
        {"image": images[:1] * 3, "label": [2, 1, 0]},
        names=["a", "b", "c"],
    )
    found = open_examples(TABLES, tmp_path)
    assert found.classes == ("a", "b", "c") and len(found) == 1 and len(found.training()) == 3
    assert "the cell is empty" in found.unreadable["test-00000-of-00001.parquet:1"]


def test_columns_of_bytes_are_not_read_on_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = [b"x" * 100] * 2
    columns = {
        "image": [picture()] * 2,
        "label": [0, 1],
        "thumbnail": rest,
        "other": [[{"bytes": each}] for each in rest],
    }
    asked: list[list[str]] = []
    real = pq.read_table

    def read(path: Path, columns: list[str]) -> pa.Table:
        asked.append(columns)
        return real(path, columns=columns)

    monkeypatch.setattr(pq, "read_table", read)
    assert len(open_examples(TABLES, write(tmp_path / "a.parquet", columns))) == 2 and asked == [["label"]]


def test_captions_and_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "c.parquet", {"image": [picture()] * 2, "captions": [["A", "B"], ["C"]], "id": [5, 6]})
    found = open_examples(described("parquet", protocol="retrieval"), path)
    assert [found.captions(number) for number in range(2)] == [("A", "B"), ("C",)] and found.key(1) == "6"
    columns: dict[str, list[Any]] = {"image": [picture()] * 2, "question": ["Q?"] * 2, "answers": [["x", "y"]] * 2}
    path = write(tmp_path / "q.parquet", {**columns, "task": ["t", "u"], "source": ["s", "s"]})
    asked = described(
        "parquet", protocol="dialogue", reading={"columns": {"category": "source"}, "where": {"task": "u"}}
    )
    found = open_examples(asked, path)
    assert len(found) == 1 and found.question(0) == Question("Q?", ("x", "y"), (), "s")


def test_names_of_pictures_lead_to_files_and_none_at_all_is_told(tmp_path: Path) -> None:
    lay(tmp_path, {"photos/a.png": picture()})
    path = write(tmp_path / "q.parquet", {"image": ["a.png", "b.png"], "question": ["Q?"] * 2, "answer": ["x"] * 2})
    found = open_examples(described("parquet", protocol="dialogue"), path)
    assert len(found) == 1 and len(found.unreadable) == 1
    blind = open_examples(described("parquet", protocol="dialogue", reading={"columns": {"image": ""}}), path)
    assert len(blind) == 2 and blind.pictures(0) == [] and "there are no pictures" in blind.notes[0]


def test_masks(tmp_path: Path) -> None:
    columns = {"image": [picture(size=(2, 2))] * 2, "mask_png": [mask([[0, 1], [11, 1]]), mask([[0, 1, 1]])]}
    seg = described("parquet", protocol="segmentation", class_names=["a", "b"], reading={"ignore": [11]})
    found = open_examples(seg, write(tmp_path / "m.parquet", columns))
    assert found.mask(0).tolist() == [[0, 1], [255, 1]]
    assert "is (3, 1), its picture (2, 2)" in found.unreadable["m.parquet:1"]


@pytest.mark.parametrize(
    ("columns", "more", "says"),
    [
        ({"label": [0, 5], "class_name": ["a", "b"]}, {"class_names": ["a", "b"]}, "is of class 5, which is none"),
        ({"label": [0, 0], "class_name": ["a", "b"]}, {}, "calls class 0 both 'a' and 'b'"),
        ({"label": [0, 1]}, {"reading": {"columns": {"label": "kind"}}}, "there is no column 'kind' for the label"),
        ({"label": [0, 1]}, {"reading": {"where": {"kind": "x"}}}, "has no column 'kind'"),
        ({"label": [0, 1], "kind": ["a", "b"]}, {"reading": {"where": {"kind": "x"}}}, "split test with kind=x"),
    ],
)  # fmt: skip
def test_odd_tables_are_refused(
    tmp_path: Path, columns: dict[str, list[Any]], more: dict[str, Any], says: str
) -> None:
    path = write(tmp_path / "a.parquet", {"image": [picture()] * 2, **columns})
    with pytest.raises(ManifestError, match=says):
        open_examples(described("parquet", **more), path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = labelled(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ManifestError, match="is no whole parquet file"):
        open_examples(TABLES, path)
