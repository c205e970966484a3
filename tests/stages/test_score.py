"""The whole stage on small pools: every signal that can be switched on, and what must not matter."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file
from scored_pool import Row, commit, network, picture

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.manifest import Manifest, ManifestError, load, verify
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.score import Parameters, load_embeddings
from stages.signals import embedding
from stages.signals.parameters import COMPUTED
from stages.workspace import Output, read_table

GONE = picture(1000)
TEXTS = (
    "a red bicycle leans on a wall",
    "two dogs run over the wet sand",
    "ein Hund läuft über den Strand und bellt",
)


def rows() -> list[Row]:
    """Return thirty pictures, ten of which are one placeholder, and two that were not fetched."""
    own = [Row(f"http://a/{n}", TEXTS[n % 3] + " " * n, picture(n), aesthetic=n / 2) for n in range(20)]
    gone = [Row(f"http://b/{n}", f"product {chr(97 + n)} for sale", GONE, host="b.org") for n in range(10)]
    return [*own, *gone, Row("http://a/x", TEXTS[0], None), Row("http://a/y", TEXTS[2], None)]


def parts(count: int = 3) -> list[list[Row]]:
    return [rows()[number::count] for number in range(count)]


def score(store: Store, cluster: Cluster | None = None, version: str = "v1", **given: Any) -> Manifest:
    names = ("listing/own", "pool/own", *(() if "clip_model" in given else ("checkpoints/filtering_network",)))
    inputs = tuple(Ref(name=name, version="v1") for name in names)
    ref = Ref(name="signals/own", version=version)
    spec = StageSpec(stage="score", artifact=ref, parameters=given, inputs=inputs)
    return materialize(spec, store, cluster or InlineCluster())


def ready(store: Store, given: list[list[Row]] | None = None) -> Store:
    commit(store, given or parts())
    network(store)
    return store


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ready(Store(str(tmp_path_factory.mktemp("pooled"))))


def column(store: Store, signals: Manifest, name: str) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for part in signals.parts:
        table = read_table(store, signals, part, name)
        found |= dict(zip(table["uid"].to_pylist(), table["value"].to_pylist(), strict=True))
    return found


def of(store: Store, signals: Manifest, name: str) -> list[Any]:
    """Return a signal in the order of `rows`, those that were fetched."""
    found = column(store, signals, name)
    return [found[row.uid] for row in rows() if row.image]


def test_signals_that_span_parts_are_counted_over_all_of_them(pooled: Store) -> None:
    signals = score(pooled, version="plain")
    assert of(pooled, signals, "duplicates") == [1] * 20 + [10] * 10
    # White space collapses, and a listed caption counts whether its picture came or not.
    assert of(pooled, signals, "caption_frequency") == [(8, 7, 7)[n % 3] for n in range(20)] + [1] * 10
    assert of(pooled, signals, "soft_404") == [1] * 20 + [10] * 10
    assert of(pooled, signals, "aesthetic") == [n / 2 for n in range(20)] + [None] * 10
    assert set(of(pooled, signals, "frames")) == {1}
    assert set(of(pooled, signals, "unsafe")) == set(of(pooled, signals, "decoded_share")) == {None}
    assert of(pooled, signals, "image_bytes") == [len(row.image) for row in rows() if row.image]
    assert set(of(pooled, signals, "min_side")) == {48} and set(of(pooled, signals, "pixels")) == {48 * 48}
    assert all(value > 0 for value in of(pooled, signals, "length_spike"))
    assert all(-1 <= value <= 1 for value in of(pooled, signals, "clip_similarity"))
    assert set(of(pooled, signals, "eval_similarity")) == {None}
    # What nobody asked for is not there.
    absent = {"eval_hit", "entropy", "gray_variance", "perceptual_duplicates", "near_duplicates"}
    assert not absent & set(signals.parts[0].files)
    assert verify(pooled, signals) == [] and not pooled.files("signals/own/v1/spill")


def test_embeddings_are_published_with_the_model_that_made_them(pooled: Store) -> None:
    signals = score(pooled, version="plain")
    output = Output(store=pooled, ref=signals.ref, stage="score", identity={})
    weights = load(pooled, Ref(name="checkpoints/filtering_network", version="v1")).parts[0].files["weights"].sha256
    for part in signals.parts:
        (_, images), (_, texts) = (
            load_embeddings(output, signals, part, name) for name in ("image_embedding", "text_embedding")
        )
        cosines = (images.astype(float) * texts.astype(float)).sum(axis=1)
        table = read_table(pooled, signals, part, "clip_similarity")
        np.testing.assert_allclose(table["value"].to_numpy(), cosines, atol=2e-3)
        assert table.schema.metadata[b"weights_sha256"].decode() == weights
    assert signals.totals["clip_weights_sha256"] == weights
    without = score(pooled, version="narrow", keep_embeddings=False)
    assert "image_embedding" not in without.parts[0].files


def everything(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    save_file({"weight": rng.normal(size=(1, 16)).astype(np.float32)}, tmp_path / "head.safetensors")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "same.jpg").write_bytes(picture(3))
    (tmp_path / "coco" / "again.jpg").write_bytes(picture(4, quality=60))
    (tmp_path / "list.txt").write_text(hashlib.sha256(picture(5)).hexdigest())
    return {
        "heads": {"aesthetic": str(tmp_path / "head.safetensors"), "beauty": str(tmp_path / "head.safetensors")},
        "evaluation_sets": {"coco": str(tmp_path / "coco"), "flickr": str(tmp_path / "list.txt")},
        "min_hit_similarity": 1.0,
        "pixel_facts": True,
        "near_duplicates": True,
    }


def test_everything_at_once(pooled: Store, tmp_path: Path) -> None:
    signals = score(pooled, version="all", **everything(tmp_path))
    assert of(pooled, signals, "beauty") == of(pooled, signals, "aesthetic") != [n / 2 for n in range(20)]
    hits = of(pooled, signals, "eval_hit")
    assert hits[3:6] == ["coco/same.jpg", "coco/again.jpg", "flickr/00000000"]
    assert set(hits[:3] + hits[6:]) == {None}
    similar = of(pooled, signals, "eval_similarity")
    assert similar[3:6] == [1, 1, 1] and all(value is not None and value < 1 for value in similar[:3] + similar[6:])
    assert of(pooled, signals, "perceptual_duplicates") == [1] * 20 + [10] * 10
    assert of(pooled, signals, "near_duplicates")[:20] == [(7, 7, 6)[n % 3] for n in range(20)]
    assert min(of(pooled, signals, "entropy")) > 1 and min(of(pooled, signals, "sharpness")) > 1
    assert set(signals.totals["heads"]) == {"aesthetic", "beauty"}


def test_the_embedding_tier_names_what_is_nearest(
    pooled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    for number in (7, 8):
        (tmp_path / "set" / f"{number}.jpg").write_bytes(picture(number, quality=30, side=40))
    (tmp_path / "set" / "6.jpg").write_bytes(b"no picture")
    monkeypatch.setattr("stages.signals.overlap.AT_ONCE", 1)
    signals = score(pooled, version="near", evaluation_sets={"set": str(tmp_path / "set")}, min_hit_similarity=-1)
    hits, similar = of(pooled, signals, "eval_hit"), of(pooled, signals, "eval_similarity")
    assert hits[7:9] == ["set/7.jpg", "set/8.jpg"] and None not in hits and None not in similar


def test_buckets_and_order_of_parts_change_no_byte(
    pooled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = everything(tmp_path)
    one = score(pooled, version="one", **given)
    monkeypatch.setattr("stages.signals.exchange.BUCKET_ROWS", 8)
    monkeypatch.setattr("stages.score.spread", lambda _, work, items: [work(item) for item in list(items)[::-1]])
    other = score(pooled, version="many", **given)
    assert [part.files for part in one.parts] == [part.files for part in other.parts]


@pytest.mark.ray
def test_workers_change_no_byte(pooled: Store, tmp_path: Path, ray_cluster: Cluster,
                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    given = everything(tmp_path)
    one = score(pooled, version="inline", **given)
    monkeypatch.setattr("stages.workspace.LIGHT_SECONDS", 0.0)
    monkeypatch.setattr("stages.sources.collect.LIGHT_SECONDS", 0.0)
    other = score(pooled, ray_cluster, version="ray", **given)
    assert [part.files for part in one.parts] == [part.files for part in other.parts]
    assert not pooled.files("signals/own/v1/spill")


def test_the_same_counts_whatever_the_parts(tmp_path: Path) -> None:
    found = []
    for count in (1, 4):
        store = ready(Store(str(tmp_path / str(count))), parts(count))
        signals = score(store, pixel_facts=True, near_duplicates=True)
        names = ("duplicates", "caption_frequency", "soft_404", "near_duplicates", "perceptual_duplicates")
        found.append({name: column(store, signals, name) for name in (*names, "length_spike")})
    assert found[0] == found[1]


def test_a_poisoned_picture_is_null_and_its_part_stands(store: Store) -> None:
    poisoned = Row("http://p/1", TEXTS[0], picture(50), stored=b"no picture")
    cut = Row("http://p/2", TEXTS[1], picture(51), stored=picture(51)[:200])
    ready(store, [[*rows(), poisoned, cut]])
    signals = score(store, max_unscored=0.1, pixel_facts=True, evaluation_scenes=2)
    for name in ("clip_similarity", "image_embedding", "text_embedding", "eval_similarity", "gray_variance"):
        values = column(store, signals, name)
        null = {uid for uid, value in values.items() if value is None}
        assert null == {poisoned.uid, cut.uid} and len(values) == 32, name
    assert None not in column(store, signals, "caption_frequency").values()
    assert signals.totals["unscored"] == 2 and signals.ledger.kept == 32
    with pytest.raises(ManifestError, match=r"2 of 32 pictures of pool/own@v1 .* more than max_unscored 0.01"):
        score(store, version="v2")


def test_a_part_of_nothing_but_poison_or_of_nothing_is_scored(store: Store) -> None:
    poison = [Row("http://p/1", TEXTS[0], picture(50), stored=b"no picture")]
    ready(store, [rows(), poison, [Row("http://n/1", TEXTS[1], None)]])
    signals = score(store, max_unscored=1, heads={}, pixel_facts=True)
    assert [part.ledger.kept for part in signals.parts] == [30, 1, 0]
    assert read_table(store, signals, signals.parts[1], "clip_similarity")["value"].null_count == 1
    types = {read_table(store, signals, part, "image_embedding").schema for part in signals.parts}
    assert len(types) == 1


def test_a_shipped_score_that_is_no_number_was_not_computed(store: Store) -> None:
    shipped = [float("nan"), float("inf"), None, 4.5]
    given = [Row(f"http://s/{n}", TEXTS[0], picture(n), aesthetic=value) for n, value in enumerate(shipped)]
    ready(store, [given])
    found = column(store, score(store), "aesthetic")
    assert [found[row.uid] for row in given] == [None, None, None, 4.5]


def test_a_picture_larger_than_float32_counts_is_scored(store: Store) -> None:
    large = Row("http://b/1", TEXTS[0], picture(50), sent=2**24 + 1)
    ready(store, [[large]])
    assert column(store, score(store), "image_bytes") == {large.uid: 2**24}


def test_a_language_that_nobody_declared_is_guessed_where_the_caption_tells(store: Store) -> None:
    undeclared = [
        Row("http://l/1", "ein Hund läuft über den Strand und bellt die Wellen an", picture(60), language=None),
        Row("http://l/2", "公園のベンチに座っている老人と犬の写真です", picture(61), language=None),
        Row("http://l/3", "IMG 0001", picture(62), language=None),
        Row("http://l/4", "ein Hund läuft über den Strand und bellt die Wellen an", picture(63), language="nl"),
    ]
    ready(store, [undeclared])
    found = column(store, score(store), "language")
    assert [found[row.uid] for row in undeclared] == ["de", "ja", None, "nl"]


def test_the_network_is_fetched_once_per_process(pooled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    plain = embedding.fetch
    monkeypatch.setattr(embedding, "fetch", lambda *given: fetched.append(1) or plain(*given))
    monkeypatch.setattr(embedding, "_HERE", {})
    score(pooled, version="counted")
    assert fetched == [1]


def test_a_listing_that_is_not_the_pools_is_refused(store: Store) -> None:
    ready(store)
    store.remove("listing/own")
    commit_only_listing(store, parts()[:1] * 3)
    with pytest.raises(ManifestError, match="has pictures of rows that listing/own@v1 does not list; download again"):
        score(store)


def commit_only_listing(store: Store, given: list[list[Row]]) -> None:
    other = Store(store.root + "-other")
    commit(other, given)
    for key in list(other.keys()):
        if key.startswith("listing/"):
            store.write(key, other.read(key))


@pytest.mark.parametrize("name", ["caption", "duplicates", "two words", "eval_hit", "entropy"])
def test_a_head_cannot_take_the_name_of_another_signal(name: str) -> None:
    with pytest.raises(ValidationError, match="a head cannot be named"):
        Parameters(heads={name: "x"})
    assert Parameters(heads={"unsafe": "x", "mine": "y"}).heads and pa.__version__


def test_a_pretrained_model_is_known_by_its_weights(pooled: Store, tmp_path: Path) -> None:
    import open_clip
    import torch

    manifest = load(pooled, Ref(name="checkpoints/filtering_network", version="v1"))
    folder = embedding.fetch(pooled, manifest, tmp_path)
    open_clip.add_model_config(folder / "internvl_filtering_network.json")
    path = folder / "internvl_filtering_network.pt"
    own = score(pooled, version="own", clip_model=f"open_clip:internvl_filtering_network/{path}")
    plain = score(pooled, version="plain")
    assert of(pooled, own, "clip_similarity") == of(pooled, plain, "clip_similarity")
    assert own.totals["clip_weights_sha256"] == plain.totals["clip_weights_sha256"]
    # One whose file a library keeps to itself is known by its numbers.
    layer = torch.nn.Linear(2, 2)
    before = embedding.state_sha256(layer)
    assert before == embedding.state_sha256(layer)
    with torch.no_grad():
        layer.bias[1] += 1e-3
    assert before != embedding.state_sha256(layer)


def test_the_page_names_every_signal() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/signals.md").read_text()
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == COMPUTED
