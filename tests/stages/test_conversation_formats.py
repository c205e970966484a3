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
from stages.conversation_naming import expanded, named
from stages.conversation_rows import RowError
from stages.conversation_sources import SHORT, OwnConversations, mixture, pin
from stages.manifest import ManifestError
from stages.training.order import Weight

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


def test_a_meta_file_names_its_sources(store: Store, tmp_path: Path) -> None:
    told_of_charts = {"data_augment": True, "repeat_time": 0.5, "length": 9}
    meta = {
        "charts": {"root": "charts/", "annotation": "charts.jsonl", **told_of_charts},
        "Text-only!": {"annotation": "/given/text.jsonl", "repeat_time": 3, "max_dynamic_patch": 6},
    }
    path = write(tmp_path / "meta.json", json.dumps(meta))
    first, second = named(path, store)
    assert (first.name, first.path, first.root) == (
        "charts", str(tmp_path / "charts.jsonl"), str(tmp_path / "charts"),
    )  # fmt: skip
    assert first.data_augment and first.repeat == 0.5 and first.max_dynamic_patch is None
    assert (second.name, second.path, second.root) == ("text_only", "/given/text.jsonl", None)
    assert second.max_dynamic_patch == 6
    assert expanded(path, store, "/base")[0].root == "/base/charts"
    weights = mixture((first, second), "repeat")
    assert weights == (
        Weight(name="conversations/charts", repeat=1.0), Weight(name="conversations/text_only", repeat=3.0),
    )  # fmt: skip
    assert [each.of(300) for each in mixture((first, second), "square_root")] == [300**0.5, 30.0]
    for wrong, message in (
        ({"a": {"root": "x"}}, "source 'a' names no annotation"),
        ({"a": {"annotation": "x.json"}}, "must end in .jsonl"),
        ({"a": {"annotation": "x.jsonl", "repeat": 2}}, "source 'a' has 'repeat'; known are annotation"),
        ({"a": {"annotation": "x.jsonl", "repeat_time": 0}}, "greater than 0"),
    ):
        with pytest.raises(ManifestError, match=message):
            expanded(write(tmp_path / "wrong.json", json.dumps(wrong)), store)


def test_the_store_is_named_as_this_machine_is(store: Store, tmp_path: Path) -> None:
    meta = {
        "near": {"annotation": "near.jsonl", "root": "./pictures/"},
        "far": {"annotation": "store://else/far.jsonl", "root": "../b.tar"},
        "here": {"annotation": str(tmp_path / "here.jsonl"), "root": str(tmp_path)},
    }
    store.write("given/meta.json", json.dumps(meta).encode())
    near, far, here = named("store://given/meta.json", store)
    assert (near.path, near.root) == ("store://given/near.jsonl", "store://given/pictures")
    assert (far.path, far.root) == ("store://else/far.jsonl", "store://b.tar")
    assert (here.path, here.root) == (str(tmp_path / "here.jsonl"), str(tmp_path))
    path = write(tmp_path / "meta.json", json.dumps({"a": {"annotation": "a.jsonl", "root": "pics"}}))
    (based,) = named(path, store, "store://given")
    assert (based.path, based.root) == ("store://given/a.jsonl", "store://given/pics")
    with pytest.raises(ManifestError, match=r"http://x/pics lies on a network|http://x/a.jsonl lies on a network"):
        named(path, store, "http://x")
    store.write("llava.json", b"[]")
    assert named("store://llava.json", store)[0].format == "llava"
    with pytest.raises(ManifestError, match=r"there is no file store://given/gone\.jsonl"):
        named("store://given/gone.jsonl", store)


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


def test_a_comma_in_a_name_is_no_second_file(store: Store, tmp_path: Path) -> None:
    (source,) = named(write(tmp_path / "a,b.jsonl", "{}"), store)
    assert (source.name, source.path) == ("a_b", str(tmp_path / "a,b.jsonl"))
    store.write("a,b.jsonl", b"{}")
    assert named("store://a,b.jsonl", store)[0].path == "store://a,b.jsonl"


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.jsonl", "{}", "jsonl"),
        ("a.json", '\n [{"id": 1}]', "llava"),
        ("a.parquet", "", "rows"),
        ("a.tar", "", "qa_tar"),
    ],
)
def test_formats_are_told_by_the_file(store: Store, tmp_path: Path, name: str, text: str, wanted: str) -> None:
    (source,) = named(write(tmp_path / name, text), store, "/pictures")
    assert (source.format, source.name, source.root) == (wanted, "a", "/pictures")


def test_questions_come_with_annotations_and_nonsense_is_refused(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "q.json", '{"questions": []}')
    (source,) = named(f"{path},{path}", store)
    assert (source.format, source.answers) == ("vqa", path)
    with pytest.raises(ManifestError, match="name its annotations too"):
        named(path, store)
    with pytest.raises(ManifestError, match="no instruction data that is known here"):
        named(write(tmp_path / "x.json", '{"a": 1}'), store)
    with pytest.raises(ManifestError, match="there is no file"):
        named(str(tmp_path / "missing.jsonl"), store)


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
