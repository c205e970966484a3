"""Which sources a file of instruction data holds: told by what is in it, or listed in an official meta JSON."""

import json
from pathlib import Path

import pytest
from test_conversation_formats import write

from infra.storage import Store
from stages.conversation_naming import expanded, named
from stages.conversation_sources import mixture
from stages.manifest import ManifestError
from stages.training.order import Weight


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
