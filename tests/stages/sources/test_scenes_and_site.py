import json
import tarfile
import threading
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages import fetchers, list_urls
from stages.outcome import Outcome
from stages.sources.captions import LANGUAGES, caption
from stages.sources.identity import canonical_url, uid_of, url_id_of
from stages.sources.own_pictures import captions_of
from stages.sources.questions import questions
from stages.sources.scenes import UNSEEN_PAIRS, Split, draw, sample_scene
from stages.sources.web_lists import publish
from stages.sources.web_server import make_server, write_list
from stages.sources.web_site import SOURCES, SiteSpec, plan_site


def test_a_scene_is_a_pure_function_and_splits_differ() -> None:
    assert sample_scene(0, 7, Split.TRAIN) == sample_scene(0, 7, Split.TRAIN)
    assert sample_scene(0, 7, Split.TRAIN) != sample_scene(0, 7, Split.IID)
    first, second = (np.asarray(draw(sample_scene(0, 7, Split.TRAIN), 48)) for _ in range(2))
    assert (first == second).all() and first.shape == (48, 48, 3)


def test_unseen_pairs_are_never_in_training_and_always_in_their_split() -> None:
    for index in range(400):
        scene = sample_scene(1, index, Split.TRAIN)
        assert (scene.group_color, scene.group_shape) not in UNSEEN_PAIRS
        assert (scene.single_color, scene.single_shape) not in UNSEEN_PAIRS
        other = sample_scene(1, index, Split.UNSEEN)
        assert (other.group_color, other.group_shape) in UNSEEN_PAIRS


def test_the_picture_shows_what_the_scene_says() -> None:
    """The centre of the group is on the side that the relation names."""
    for index in range(60):
        scene = sample_scene(2, index, Split.TRAIN)
        pixels = np.asarray(draw(scene, 48), dtype=np.int32)
        colourful = pixels.max(axis=2) - pixels.min(axis=2) > 60
        rows, columns = np.nonzero(colourful)
        left, top = (columns < 16).sum(), (rows < 16).sum()
        right, bottom = (columns >= 32).sum(), (rows >= 32).sum()
        assert {"left": left, "right": right, "above": top, "below": bottom}[scene.relation] > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_say_everything_once(language: str) -> None:
    texts = {caption(sample_scene(0, n, Split.TRAIN), language, v) for n in range(50) for v in (0, 1)}
    assert len(texts) > 90
    found = questions(sample_scene(0, 1, Split.TRAIN), language)
    assert [q.kind for q in found] == ["color", "shape", "relation", "count", "exists"]
    assert all(q.answer and q.answer not in q.question for q in found if q.kind != "exists")


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="known are"):
        caption(sample_scene(0, 0, Split.TRAIN), "xx")


SPEC = SiteSpec(rows=dict.fromkeys(SOURCES, 120), base_url="http://127.0.0.1:1")


def test_the_site_is_a_pure_function_of_its_spec(tmp_path: Path) -> None:
    one, two = publish(SPEC, tmp_path / "a"), publish(SPEC, tmp_path / "b")
    assert {n: p.read_bytes() for n, p in one.items()} == {n: p.read_bytes() for n, p in two.items()}
    assert plan_site(SPEC).num_rows == 600


def test_lists_have_the_shapes_of_the_real_datasets(tmp_path: Path) -> None:
    lists = publish(SPEC, tmp_path)
    assert {"URL", "TEXT", "similarity", "punsafe", "pwatermark"} <= set(pq.read_schema(lists["laion_en"]).names)
    assert "LANGUAGE" in pq.read_schema(lists["laion_multi"]).names
    assert "clip_similarity_vitb32" in pq.read_schema(lists["coyo"]).names
    assert lists["cc3m"].read_text().split("\n")[9].split("\t")[1].startswith("http")
    assert lists["wukong"].read_text().startswith("url,caption")


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no plan for source"):
        SiteSpec(rows={"nowhere": 3})


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[str, SiteSpec]]:
    server = make_server("127.0.0.1", 0, SPEC.model_copy(update={"rows": {"laion_en": 400}}))
    base = f"http://127.0.0.1:{server.server_address[1]}"
    spec = SPEC.model_copy(update={"base_url": base, "rows": {"laion_en": 400}})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield base, spec
    server.shutdown()


def test_the_server_plays_each_fault(web: tuple[str, SiteSpec]) -> None:
    _, spec = web
    statuses = {"not_found": 404, "gone": 410, "forbidden": 403, "server_error": 503, "rate_limited": 429}
    seen = set()
    for row in plan_site(spec).to_pylist():
        if row["kind"] in statuses and row["kind"] not in seen:
            seen.add(row["kind"])
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(row["url"], timeout=5)
            assert error.value.code == statuses[row["kind"]]
        elif row["kind"] == "plain" and "plain" not in seen:
            seen.add("plain")
            first = urllib.request.urlopen(row["url"], timeout=5).read()
            assert first[:3] == b"\xff\xd8\xff" and first == urllib.request.urlopen(row["url"], timeout=5).read()
    assert {"not_found", "plain"} <= seen


def test_pictures_that_exist_can_be_served_and_listed(tmp_path: Path) -> None:
    draw(sample_scene(0, 0, Split.TRAIN), 48).save(tmp_path / "one.jpg")
    (tmp_path / "one.txt").write_text("A caption.")
    draw(sample_scene(0, 1, Split.TRAIN), 48).save(tmp_path / "two.png")
    (tmp_path / "two.json").write_text('{"captions": ["First.", "Second."]}')
    assert captions_of(tmp_path) == [
        ("one.jpg", "A caption."),
        ("two.png", "First."),
    ]
    assert write_list(tmp_path, "http://127.0.0.1:1", tmp_path / "list.parquet") == 2
    assert pq.read_table(tmp_path / "list.parquet")["url"][0].as_py() == "http://127.0.0.1:1/pictures/one.jpg"


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_only_the_pictures_that_are_asked_for_are_read(tmp_path: Path, kind: str) -> None:
    folder, mega = tmp_path / "pictures", 1 << 20
    folder.mkdir()
    for number in range(16):
        (folder / f"{number}.jpg").write_bytes(bytes([number]) * mega)
        (folder / f"{number}.txt").write_text(f"Caption {number}.")
    (tmp_path / "outside.jpg").write_bytes(b"x")
    path = folder
    if kind == "tar":
        path = tmp_path / "pictures.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(folder, "")
    tracemalloc.start()
    listing = list_urls.Parameters(source="own", images=str(path))
    found = list_urls.pin(listing)
    (((listed, _),), *_) = list_urls._files(listing, tmp_path)
    asked = {f"images:///{name}" for name in ("3.jpg", "absent.jpg", "../outside.jpg", f"{tmp_path}/outside.jpg")}
    shelf = fetchers.shelf(str(path), asked, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * mega, "one picture at a time"
    assert shelf._pictures == {"images:///3.jpg": b"\3" * mega}
    rows = [json.loads(line) for line in Path(listed).read_text().splitlines()]
    assert rows == [{"url": f"images:///{n}.jpg", "caption": f"Caption {n}."} for n in sorted(range(16), key=str)]
    (folder / "3.jpg").write_bytes(b"\4" * mega)
    assert kind == "tar" or list_urls.pin(listing) != found, "as long as before, and another picture"


def test_identity_ignores_spelling_and_nothing_else() -> None:
    assert canonical_url(" HTTP://Example.COM:80/A#x ") == "http://example.com/A"
    assert canonical_url("https://example.com:8443/a") == "https://example.com:8443/a"
    assert uid_of("s", "http://a/b", "x") == uid_of("s", "HTTP://A/b", "x")
    assert len({uid_of("s", "http://a/b", "x"), uid_of("t", "http://a/b", "x"), uid_of("s", "http://a/b", "y")}) == 3
    assert url_id_of("http://a/b#1") == url_id_of("http://a/b#2")
    assert len(uid_of("s", "http://a", "\ud800")) == 16


def test_every_planned_outcome_is_in_the_closed_list() -> None:
    assert {Outcome(row) for row in plan_site(SPEC)["outcome"].to_pylist()} <= set(Outcome)
