"""One's own instruction data through the stage: what comes out, what is refused and how it is told."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from own_data import annotations, make, mixed, picture, turns, video

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages import conversations
from stages.batches import ShardedSamples
from stages.conversation_sources import OwnConversations
from stages.held_out import divide
from stages.manifest import Ledger, ManifestError
from stages.ref import Ref
from stages.shard_index import read_index
from stages.workspace import Output, Workspace


def source(folder: Path, rows: list[Any], **given: Any) -> OwnConversations:
    told = {"name": "own", "format": "jsonl", "path": annotations(folder, rows), "root": str(folder), **given}
    return OwnConversations.model_validate(told)


def rows_in(store: Store, made: Any, folder: Path) -> tuple[ShardedSamples, list[dict[str, Any]]]:
    samples = ShardedSamples(store, made, folder / made.ref.version)
    return samples, [samples.facts(number) for number in range(len(samples))]


def test_rows_of_every_kind_come_out_in_one_schema_with_their_pictures(store: Store, tmp_path: Path) -> None:
    own = source(tmp_path, mixed(tmp_path), language="en", max_dynamic_patch=4, data_augment=True)
    made = make(store, tmp_path, own, frames={"least": 3, "most": 3, "longest_side": 32})
    assert made.ledger == Ledger(listed=4, kept=4)
    samples, rows = rows_in(store, made, tmp_path)
    text, one, two, film = rows
    assert [row["id"] for row in rows] == ["text", "one", "two", "film"]
    assert all(row["source"] == "own" and row["language"] == "en" for row in rows)
    assert [len(samples.pictures(number)) for number in range(4)] == [0, 1, 2, 3]
    assert samples.pictures(1) == [(tmp_path / "a.png").read_bytes()], "the bytes as they were"
    assert samples.pictures(2)[1] == (tmp_path / "deep/c.webp").read_bytes()
    assert "max_dynamic_patch" not in text and "width" not in text
    assert (one["width"], one["height"], one["max_dynamic_patch"], one["data_augment"]) == (96, 48, 4, True)
    assert (two["width"], two["height"]) == ([96, 48], [48, 96])
    assert film["video"] is True and (film["width"], film["height"]) == ([32] * 3, [24] * 3)
    assert film["conversations"][0]["value"] == "<video>\nBrighter or darker?"
    totals = {name: made.totals[name] for name in ("turns", "pictures", "videos", "rejected", "per_source")}
    assert totals == {"turns": 5, "pictures": 3, "videos": 1, "rejected": {}, "per_source": {"own": 4}}


BAD: list[tuple[Any, str]] = [
    ("{nonsense", "json: it is not JSON"),
    ({"id": 1, "conversations": turns("Q")}, "roles: turn 1 is of human"),
    ({"id": 2, "image": "gone.png", "conversations": turns("Q", "A")}, "missing_picture: gone.png is not in"),
    ({"id": 3, "image": "../a.png", "conversations": turns("Q", "A")}, "path: '../a.png' is no name below the root"),
    ({"id": 4, "image": "torn.png", "conversations": turns("Q", "A")}, "picture: torn.png cannot be decoded"),
    ({"id": 5, "image": "large.png", "conversations": turns("Q", "A")}, "too_many_pixels: large.png has more than"),
    ({"id": 6, "video": "torn.png", "conversations": turns("Q", "A")}, "video: torn.png: the video cannot be read"),
    ({"id": 7, "video": "clip.mp4", "clip": [9, 10], "conversations": turns("Q", "A")}, "video: clip.mp4: the"),
    ({"id": 8, "video": "none/", "conversations": turns("Q", "A")}, "missing_picture: none/ is not in"),
    ({"id": 9, "conversations": turns("Q", "<box>[[0, 0, 2000, 1]]</box>")}, "markup: turn 2: <box> [0, 0, 2000, 1]"),
    ('{"id": ' + "[" * 500 + "]" * 500 + "}", "shape: more than 32 lists and objects lie within each other"),
    ('{"id": {"a": ' + "[" * 31 + "]" * 31 + "}}", "shape: "),
    ({"id": "good", "conversations": turns("Q", "A")}, "duplicate: the same row as line 1, with the same id"),
]  # fmt: skip


def test_bad_rows_are_named_by_file_and_line_and_counted_by_reason(store: Store, tmp_path: Path) -> None:
    picture(tmp_path, "large.png", 128, 128)
    picture(tmp_path, "torn.png", 64, 64)
    (tmp_path / "torn.png").write_bytes((tmp_path / "torn.png").read_bytes()[:60])
    video(tmp_path)
    good = [{"id": "good", "conversations": turns("Q", "A")}, {"id": "good", "conversations": turns("Q", "B")}]
    own = source(tmp_path, [*good, *(row for row, _ in BAD)], most_bad=0.9)
    made = make(store, tmp_path, own, max_pixels=128 * 128 - 1)
    assert made.ledger == Ledger(listed=len(BAD) + 2, kept=2, rejected=len(BAD))
    listed = store.read(made.key(made.reports["bad_rows"])).decode().splitlines()
    for number, (line, (_, wanted)) in enumerate(zip(listed, BAD, strict=True), 3):
        assert line.startswith(f"{own.path}, line {number}: {wanted}"), line
    assert made.totals["first_bad_rows"] == listed[:5]
    assert made.totals["rejected"] == {
        "duplicate": 1, "json": 1, "markup": 1, "missing_picture": 2, "path": 1, "picture": 1, "roles": 1, "shape": 2,
        "too_many_pixels": 1, "video": 2,
    }  # fmt: skip


def test_more_bad_rows_than_allowed_end_the_stage_and_so_does_the_first_if_wanted(
    store: Store, tmp_path: Path
) -> None:
    rows = [{"id": n, "conversations": turns("Q", "" if n < 2 else "A")} for n in range(10)]
    assert make(store, tmp_path, source(tmp_path, rows, most_bad=0.2)).ledger.rejected == 2
    with pytest.raises(
        ManifestError, match=r"2 of 10 rows are bad \(2 empty_turn\), more than the share 0.1 .*line 1"
    ):
        make(store, tmp_path, source(tmp_path, rows), version="more")
    with pytest.raises(ManifestError, match=r"own.jsonl, line 1: empty_turn: turn 2 .*let on_bad_row be drop"):
        make(store, tmp_path, source(tmp_path, rows, on_bad_row="fail"), version="first")
    with pytest.raises(ManifestError, match="there is no row"):
        make(store, tmp_path, source(tmp_path, [""]), version="none")


def test_a_share_of_the_rows_is_the_first_of_them(store: Store, tmp_path: Path) -> None:
    rows = [{"id": n, "conversations": turns("Q", "A")} for n in range(10)]
    made = make(store, tmp_path, source(tmp_path, rows, repeat=0.35), rows_per_shard=2)
    _, told = rows_in(store, made, tmp_path)
    assert [row["id"] for row in told] == ["0", "1", "2"] and len(made.parts) == 2
    assert made.totals["beyond_repeat"] == 7 and made.ledger == Ledger(listed=3, kept=3)
    whole = make(store, tmp_path, source(tmp_path, rows, repeat=3), version="whole")
    assert whole.ledger.kept == 10, "repeats are the mixture's matter, not copies"


def test_pictures_in_a_tar_give_what_a_folder_gives(store: Store, tmp_path: Path, any_cluster: Cluster) -> None:
    rows = mixed(tmp_path)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("a.png", "deep/b.jpg", "deep/c.webp", "clip.mp4"):
            tar.add(tmp_path / name, name)
    store.write("given/all.tar", (tmp_path / "all.tar").read_bytes())
    found = []
    for version, root in (
        ("folder", str(tmp_path)),
        ("tar", str(tmp_path / "all.tar")),
        ("store", "store://given/all.tar"),
    ):
        parameters = conversations.Parameters(own=source(tmp_path, rows, root=root))
        output = Output(store, Ref(name="conversations/own", version=version), "conversations", {"root": root})
        here = Workspace(store=store, cluster=any_cluster, scratch=tmp_path)
        found.append(conversations.run(parameters, output, here).parts[0].files["tar"].sha256)
    assert len(set(found)) == 1


def test_pictures_can_be_left_out(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path, source(tmp_path, mixed(tmp_path), root=None, text_only=True))
    samples, rows = rows_in(store, made, tmp_path)
    assert made.ledger == Ledger(listed=4, kept=4) and not any(samples.pictures(number) for number in range(4))
    assert rows[2]["conversations"][0]["value"] == "Image-1: Image-2: Which is redder?"
    assert rows[3]["conversations"][0]["value"] == "Brighter or darker?" and "video" not in rows[3]


def test_a_damaged_plan_is_refused_and_changed_files_are_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    rows = [{"id": n, "conversations": turns("Q", "A")} for n in range(3)]
    own = source(tmp_path, rows)
    output = Output(store, Ref(name="conversations/own", version="t"), "conversations", {})
    here = Workspace(store=store, cluster=InlineCluster(), scratch=tmp_path)
    parameters = conversations.Parameters(own=own)
    first = conversations.run(parameters, output, here)
    store.remove(first.ref.key("manifest.json"))
    annotations(tmp_path, rows[:2])
    assert conversations.run(parameters, output, here).ledger.kept == 2
    assert not any("/plan/" in key for key in store.keys(first.ref.folder)), "what is finished keeps no plan"
    store.remove(first.ref.key("manifest.json"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Output, "commit", killed)
        conversations.run(parameters, output, here)
    (plan,) = [key for key in store.keys(first.ref.folder) if "/plan/" in key and store.read(key).count(b"\n") == 1]
    for key in store.keys(first.ref.folder):
        if "/markers/own-" in key:
            store.remove(key)
    store.write(plan, store.read(plan).replace(b"human", b"humun"))
    with pytest.raises(ManifestError, match=r"plan/own-000000-\w+.jsonl is damaged"):
        conversations.run(parameters, output, here)


def test_own_data_is_an_artifact_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is an artifact of its own"):
        conversations.Parameters(own=source(tmp_path, []), scenes=5)


def test_the_index_of_a_shard_knows_every_picture(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path, source(tmp_path, mixed(tmp_path)), frames={"least": 2, "most": 2})
    samples, rows = rows_in(store, made, tmp_path)
    index = read_index(store, made, made.parts[0]).to_pylist()
    assert [row["uid"].hex() for row in index] == samples.keys and [row["source"] for row in index] == ["own"] * 4
    for number, row in enumerate(index[:3]):
        told = samples.pictures(number) or [samples.read(number, "json")]
        assert row["known_by"] == [hashlib.sha256(each).digest() for each in told]
    assert index[3]["known_by"] == [hashlib.sha256((tmp_path / "clip.mp4").read_bytes()).digest()]
    assert [len(row["known_by"]) for row in index] == [1, 1, 2, 1] and len(rows) == 4


def test_all_rows_of_a_video_are_on_one_side_whichever_frames_they_show(store: Store, tmp_path: Path) -> None:
    films = [video(tmp_path, f"{number}.mp4", frames=12 + number) for number in range(6)]
    for number in range(6):
        films.append(f"folder-{number}/")
        for frame in range(9):
            picture(tmp_path, f"folder-{number}/{frame}.png", 16, 16, level=10 * frame + number)
    asked = [
        {"id": f"{film}{n}", "video": film, "conversations": turns("Q", f"A{n}")} for film in films for n in (1, 2)
    ]
    made = make(store, tmp_path, source(tmp_path, asked), frames={"least": 2, "most": 8, "longest_side": 16})
    copied, told = rows_in(store, made, tmp_path)
    ranged = ShardedSamples(store, made, tmp_path / "ranged", cache_bytes=1)
    shown = [copied.pictures(number) for number in range(len(told))]
    assert any(one != other for one, other in zip(shown[::2], shown[1::2], strict=True)), "frames are drawn by row"
    assert (copied.fingerprints == ranged.fingerprints).all(), "with and without the index"
    found = divide(copied.fingerprints, 0.5, len(told), "videos")
    assert found.between == 0 and len(found.taught) + len(found.aside) == len(told) == 24
    assert found.aside.tolist() == [each for row in found.aside[::2].tolist() for each in (row, row + 1)]
    assert len({number for number in copied.fingerprints[:, 0].tolist()}) == len(films)


def test_only_json_and_pictures_stand_in_a_shard(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path, source(tmp_path, mixed(tmp_path)), frames={"least": 2, "most": 2})
    data = store.read(made.key(made.parts[0].files["tar"]))
    (tmp_path / "made.tar").write_bytes(data)
    with tarfile.open(tmp_path / "made.tar") as tar:
        suffixes = [name.partition(".")[2] for name in tar.getnames()]
    assert suffixes == ["json", "jpg", "json", "0.jpg", "1.jpg", "json", "0.jpg", "1.jpg", "json"]
    assert json.loads(data[512 : 512 + data[512:].index(b"\0")])["id"] == "text"
