"""Each published format becomes the same official rows, each with its place in its file."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infra.storage import Store
from stages.conversation_formats import Raw, array_items, boxed, rows_of
from stages.conversation_rows import RowError
from stages.conversation_sources import SHORT, OwnConversations, pin
from stages.manifest import ManifestError

ROW = {"id": "7", "image": "a.jpg", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}


def read(store: Store, **given: Any) -> list[Raw]:
    return list(rows_of(OwnConversations(name="own", **given), store))


def told(turns: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    said = [
        {"from": who, "value": value} for turn in turns for who, value in zip(("human", "gpt"), turn, strict=True)
    ]
    return {**more, "conversations": said}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_lines_are_told_by_number_and_broken_ones_go_by_their_reason(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", f"\ufeff{json.dumps(ROW)}\n\n{{broken\n[]\n")
    first, broken, other = read(store, format="jsonl", path=path)
    assert first == ("line 1", ROW) and other == ("line 4", [])
    assert broken.where == "line 3" and isinstance(broken.given, RowError) and broken.given.reason == "json"
    (tmp_path / "b.jsonl").write_bytes(b'{"a": "\xff"}\n')
    (binary,) = read(store, format="jsonl", path=str(tmp_path / "b.jsonl"))
    assert binary.given.reason == "json"


def test_an_array_tells_the_line_of_each_row(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "llava.json", json.dumps([ROW, {**ROW, "id": "8"}], indent=1))
    assert read(store, format="llava", path=path) == [("line 2", ROW), ("line 16", {**ROW, "id": "8"})]
    assert list(array_items(" [ ] ", "x")) == []
    for text, wrong in (
        ('{"a": 1}', "x, line 1: it is no array"),
        ("[1,\n2\n3]", "x, line 2: a comma is missing behind this row"),
        ('[1,\n{"a": ', "x, line 2: Expecting value"),
        ("[1,\n", "x, line 2: Expecting value"),
    ):
        with pytest.raises(ManifestError, match=wrong):
            list(array_items(text, "x"))


def test_vqa_questions_get_the_answer_most_people_gave(store: Store, tmp_path: Path) -> None:
    asked = [
        {"image_id": 42, "question": "What?", "question_id": 420},
        {"image": "b.png", "question": "Who?", "question_id": 421},
        {"image_id": 42, "question": "Why?", "question_id": 422},
        "nonsense",
    ]
    answers = [
        {"question_id": 420, "multiple_choice_answer": "net", "answers": []},
        {"question_id": 421, "answers": [{"answer": each} for each in ("cat", "dog", "dog")]},
    ]
    questions = write(tmp_path / "q.json", json.dumps({"data_subtype": "train2014", "questions": asked}))
    annotations = write(tmp_path / "a.json", json.dumps({"annotations": answers}))
    first, second, third, fourth = read(store, format="vqa", path=questions, answers=annotations)
    image = "COCO_train2014_000000000042.jpg"
    assert first == ("question 420", told([(f"What?\n{SHORT}", "net")], id="420", image=image))
    assert second == ("question 421", told([(f"Who?\n{SHORT}", "dog")], id="421", image="b.png"))
    assert third.where == "question 422" and "has no answer to it" in third.given.what
    assert fourth.where == "question 4" and fourth.given.reason == "shape"
    (plain, *_) = read(store, format="vqa", path=questions, answers=annotations, suffix="")
    assert plain.given["conversations"][0]["value"] == "What?"
    with pytest.raises(ManifestError, match="holds no list 'questions'"):
        read(store, format="vqa", path=annotations, answers=annotations)


def test_a_table_of_questions_may_bring_a_context_and_boxes_in_pixels(store: Store, tmp_path: Path) -> None:
    rows = [
        {"source": "doc", "image": None, "question": "Q", "answer": "A", "context": "read this"},
        {"source": "box", "image": "a.jpg", "question": "Where?", "answer": "[130, 160, 217, 367]",
         "context": "width=500 height=375 answer=bbox left,top,right,bottom"},
    ]  # fmt: skip
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = read(store, format="rows", path=str(path))
    assert first == ("row 1", told([("read this\nQ", "A")], id="1", source="doc"))
    box = "<box>[[260, 427, 434, 979]]</box>"
    assert second == ("row 2", told([("Where?", box)], id="2", image="a.jpg", source="box"))
    assert boxed("yes", 500, 375) == "yes" and boxed("[1, 2, 3, 4]", 0, 9) == "[1, 2, 3, 4]"
    pq.write_table(pa.table({"question": ["Q"]}), path)
    with pytest.raises(ManifestError, match="has no column 'answer'; it has question"):
        read(store, format="rows", path=str(path))
    pq.write_table(pa.table({"question": ["Q"], "answer": ["A"], "id": [7], "image": [None]}), path)
    assert read(store, format="rows", path=str(path)) == [("row 1", told([("Q", "A")], id="7"))]
    pq.write_table(pa.table({"question": ["Q"], "answer": ["A"], "image": [b"bytes"]}), path)
    with pytest.raises(ManifestError, match="column 'image' holds binary and texts are wanted"):
        read(store, format="rows", path=str(path))
    with pytest.raises(ManifestError, match="is no parquet file"):
        read(store, format="rows", path=write(tmp_path / "no.parquet", "text"))


def charts(path: Path) -> str:
    picture = io.BytesIO()
    Image.new("RGB", (8, 6)).save(picture, "PNG")
    qa = {"qa": [{"question": "How many?", "answer": "3"}, {"question": "Which?", "answer": "red"}]}
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("a.png", picture.getvalue()),
            ("a.json", json.dumps(qa).encode()),
            ("b.json", b'{"qa": 7}'),
            ("c.json", json.dumps(qa).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_a_tar_of_pictures_with_questions_gives_one_row_each(store: Store, tmp_path: Path) -> None:
    whole, broken, alone = read(store, format="qa_tar", path=charts(tmp_path / "charts.tar"))
    turns = [(f"How many?\n{SHORT}", "3"), (f"Which?\n{SHORT}", "red")]
    assert whole == ("a.json", told(turns, id="a", image="a.png"))
    assert broken.where == "b.json" and broken.given.reason == "shape"
    assert alone.given["image"] == "c.png"
    with pytest.raises(ManifestError, match="is no uncompressed tar"):
        read(store, format="qa_tar", path=write(tmp_path / "no.tar", "text" * 300))


def test_files_of_the_store_are_read_too(store: Store) -> None:
    store.write("given/a.jsonl", json.dumps(ROW).encode())
    assert read(store, format="jsonl", path="store://given/a.jsonl") == [("line 1", ROW)]
    with pytest.raises(ManifestError, match=r"store://given/b.jsonl cannot be opened"):
        read(store, format="jsonl", path="store://given/b.jsonl")


def test_what_changes_in_the_store_is_seen(store: Store) -> None:
    store.write("a.jsonl", b"{}"), store.write("p.tar", b"1")
    source = OwnConversations(name="a", format="jsonl", path="store://a.jsonl", root="store://p.tar")
    found = [pin(source, store).content_digest]
    store.write("a.jsonl", b"{} ")
    found.append(pin(source, store).content_digest)
    store.write("p.tar", b"12")
    found.append(pin(source, store).content_digest)
    assert len(set(found)) == 3
    for gone, message in (
        ({"path": "store://b.jsonl"}, "there is no store://b.jsonl"),
        ({"root": "store://q.tar"}, "root is"),
    ):
        with pytest.raises(ManifestError, match=message):
            pin(source.model_copy(update=gone), store)


def test_what_cannot_be_a_source_is_refused_and_what_changes_is_seen(store: Store, tmp_path: Path) -> None:
    for given, message in (
        ({"name": "a/b"}, "cannot be a source's name"),
        ({"name": "Charts"}, "cannot be a source's name"),
        ({"root": "https://example.org/pictures"}, "lies on a network"),
        ({"suffix": "Be brief."}, "take no suffix"),
        ({"answers": "a.json"}, "and no other, takes annotations"),
    ):
        with pytest.raises(ValueError, match=message):
            OwnConversations.model_validate({"name": "a", "format": "jsonl", "path": "a.jsonl", **given})
    path = write(tmp_path / "a.jsonl", "{}")
    source = OwnConversations(name="a", format="jsonl", path=path)
    first = pin(source, store)
    assert first.content_digest and pin(source, store) == first
    write(tmp_path / "a.jsonl", "{} ")
    assert pin(source, store).content_digest != first.content_digest
    with pytest.raises(ManifestError, match="root is the folder or tar of pictures"):
        pin(source.model_copy(update={"root": str(tmp_path / "nowhere")}), store)
