"""Url lists to shards on a small site: outcomes and verdicts against what was planted, on both clusters."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.planted_floors import fallen
from filters.policies import caption_quality, clean
from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.list_urls import ColumnNames
from stages.manifest import Manifest, ManifestError, load, verify
from stages.materialize import Drift, StageSpec, materialize
from stages.outcome import Outcome
from stages.planted import planted_summary
from stages.ref import Ref
from stages.sources.identity import uid_of
from stages.sources.scenes import Split, draw, sample_scene
from stages.sources.web_server import make_server
from stages.sources.web_site import SiteSpec, plan_site
from stages.tars import read_tar
from stages.workspace import read_file, read_table

ROWS = {"laion_en": 220, "cc3m": 220}
# A network of four steps finds all pairs alike, and a source of 220 rows repeats no caption often enough.
TOO_SMALL = ("clip_similarity", "eval_overlap", "caption_frequency")
NETWORK = {"steps": 4, "held_out": 32, "global_batch_size": 32, "hidden_size": 32, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def site() -> Iterator[SiteSpec]:
    spec = SiteSpec(rows=ROWS)
    server = make_server("127.0.0.1", 0, spec)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield spec.model_copy(update={"base_url": f"http://127.0.0.1:{server.server_address[1]}"})
    server.shutdown()


def make(
    store: Store, cluster: Cluster, stage: str, name: str, inputs: tuple[str, ...] = (), **given: Any
) -> Manifest:
    refs = tuple(Ref(name=each, version="v1") for each in inputs)
    spec = StageSpec(stage=stage, artifact=Ref(name=name, version="v1"), parameters=given, inputs=refs)
    return materialize(spec, store, cluster)


def listing(store: Store, cluster: Cluster, site: SiteSpec, source: str) -> Manifest:
    return make(
        store, cluster, "list_urls", f"listing/{source}", source=source, site=site.model_dump(), rows_per_part=100
    )


def pool(store: Store, cluster: Cluster, site: SiteSpec, source: str) -> Manifest:
    host = site.base_url.removeprefix("http://")
    return make(
        store,
        cluster,
        "download",
        f"pool/{source}",
        (f"listing/{source}",),
        image_size=48,
        timeout_seconds=4,
        deadline_seconds=6,
        allow_hosts=[host],
        truth=site.model_dump(),
        threads=8,
    )


@pytest.fixture(scope="module")
def road(site: SiteSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, SiteSpec]:
    """Run the whole data road once, in this process."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    build(store, site)
    return store, site


def build(store: Store, site: SiteSpec) -> None:
    here = InlineCluster()
    for source in ROWS:
        listing(store, here, site, source)
        pool(store, here, site, source)
    trusted = tuple(f"{kind}/{source}" for kind in ("pool", "listing") for source in ROWS)
    make(store, here, "filtering_network", "checkpoints/filtering_network", trusted, **NETWORK)
    for source in ROWS:
        needs = (f"listing/{source}", f"pool/{source}", "checkpoints/filtering_network")
        make(store, here, "score", f"signals/{source}", needs, evaluation_scenes=16)
        for policy in (
            clean(min_similarity=-1, min_pixels=40, max_eval_similarity=1, min_bytes=256),
            caption_quality(source),
        ):
            before = (f"verdicts/clean/{source}",) if policy.name != "clean" else ()
            make(
                store,
                here,
                "filter",
                f"verdicts/{policy.name}/{source}",
                (f"signals/{source}", f"pool/{source}", *before),
                source=source,
                policy=policy.model_dump(mode="json"),
                truth=site.model_dump(),
            )
    for policy in ("clean", "caption_quality"):
        needs = tuple(f"{kind}/{source}" for kind in (f"verdicts/{policy}", "pool", "signals") for source in ROWS)
        make(store, here, "write_shards", f"shards/{policy}", needs, policy=policy, rows_per_shard=150)


def get(store: Store, name: str) -> Manifest:
    return load(store, Ref(name=name, version="v1"))


@pytest.mark.parametrize("source", sorted(ROWS))
def test_every_listed_row_ends_in_the_outcome_that_was_planted(road: tuple[Store, SiteSpec], source: str) -> None:
    store, site = road
    planned = {
        uid_of(source, row["url"], row["caption"]): row["outcome"]
        for row in plan_site(site).to_pylist()
        if row["source"] == source
    }
    manifest = get(store, f"pool/{source}")
    found = {
        row["uid"]: row["outcome"]
        for part in manifest.parts
        for row in read_table(store, manifest, part, "outcomes").to_pylist()
    }
    assert found == planned
    pooled = planted_summary([manifest])[0]
    faults = sum(outcome != Outcome.FETCHED for outcome in planned.values())
    assert (pooled.planted, pooled.hits, pooled.precision, pooled.recall) == (faults, faults, 1.0, 1.0)
    assert "| not_found |" in manifest.totals["markdown"]
    assert manifest.ledger.listed == len(planned) and sum(manifest.totals["outcomes"].values()) == len(planned)


def test_pictures_of_the_pool_are_those_that_were_fetched(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    manifest = get(store, "pool/laion_en")
    for part in manifest.parts:
        table = read_table(store, manifest, part, "outcomes")
        fetched = [
            u.hex()
            for u, o in zip(table["uid"].to_pylist(), table["outcome"].to_pylist(), strict=True)
            if o == Outcome.FETCHED
        ]
        assert [key for key, _ in read_tar(read_file(store, manifest, part.files["pictures"]))] == sorted(fetched)


def test_planted_dirt_is_found_and_clean_captions_pass(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    for policy in ("clean", "caption_quality"):
        planted = get(store, f"verdicts/{policy}/laion_en").totals["planted"]
        assert fallen({rule: planted[rule] for rule in planted if rule not in TOO_SMALL}) == []
    assert planted["completeness"]["hits"] > planted["completeness"]["planted"] > 0


def test_curated_sources_pass_the_strict_step_whole(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    assert get(store, "verdicts/caption_quality/cc3m").ledger.rejected == 0


def test_shards_hold_what_was_kept_and_nothing_else(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    for policy in ("clean", "caption_quality"):
        kept = {
            uid.hex()
            for source in ROWS
            for manifest in (get(store, f"verdicts/{policy}/{source}"),)
            for part in manifest.parts
            for uid, mask in zip(*read_table(store, manifest, part, "verdicts").to_pydict().values(), strict=True)
            if not mask
        }
        shards = get(store, f"shards/{policy}")
        samples = [s for part in shards.parts for s in read_tar(read_file(store, shards, part.files["tar"]))]
        assert len(samples) == shards.ledger.kept == len(kept) and {key for key, _ in samples} == kept
        facts = json.loads(samples[0][1]["json"])
        assert facts["uid"] == samples[0][0] and facts["caption"].encode() == samples[0][1]["txt"]


def names(store: Store) -> list[str]:
    return [key.removesuffix("/v1/manifest.json") for key in sorted(store.keys()) if key.endswith("manifest.json")]


def test_every_artifact_verifies(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    assert len(names(store)) == 13
    for name in names(store):
        assert verify(store, get(store, name)) == []


ONE_OF_EACH = (
    "listing/cc3m",
    "pool/cc3m",
    "checkpoints/filtering_network",
    "signals/cc3m",
    "verdicts/clean/cc3m",
    "shards/clean",
)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_flipped_byte_is_found_and_its_file_named(road: tuple[Store, SiteSpec], name: str) -> None:
    store, _ = road
    manifest = get(store, name)
    for file in {**manifest.parts[-1].files, **manifest.reports}.values():
        key = manifest.key(file)
        good = store.read(key)
        middle = len(good) // 2
        store.write(key, good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        try:
            found = verify(store, manifest)
        finally:
            store.write(key, good)
        assert len(found) == 1 and found[0].startswith(f"{key} differs"), found
    assert verify(store, manifest) == []


def test_a_damaged_part_is_refused_by_the_stage_that_reads_it(road: tuple[Store, SiteSpec], tmp_path: Path) -> None:
    _, site = road
    other = Store(str(tmp_path / "other"))
    made = listing(other, InlineCluster(), site, "cc3m")
    key = made.key(made.parts[0].files["rows"])
    other.write(key, other.read(key)[:-1] + b"?")
    with pytest.raises(ManifestError, match=r"listing/cc3m/v1/parts/.* differs from its manifest; `internvl verify"):
        pool(other, InlineCluster(), site, "cc3m")
    assert not other.exists("pool/cc3m/v1/manifest.json")


@pytest.mark.slow
def test_an_object_store_holds_the_same_artifacts(road: tuple[Store, SiteSpec], s3_store: Store) -> None:
    store, site = road
    build(s3_store, site)
    assert names(s3_store) == names(store)
    for name in names(store):
        assert get(s3_store, name).digest == get(store, name).digest, name
        assert verify(s3_store, get(s3_store, name)) == []


def test_other_thresholds_are_refused_under_the_same_version(road: tuple[Store, SiteSpec]) -> None:
    store, site = road
    with pytest.raises(Drift, match=r"parameters\.policy"):
        make(
            store,
            InlineCluster(),
            "filter",
            "verdicts/clean/cc3m",
            ("signals/cc3m", "pool/cc3m"),
            source="cc3m",
            policy=clean(min_similarity=0.9).model_dump(mode="json"),
            truth=site.model_dump(),
        )


@pytest.mark.ray
def test_ray_gives_the_same_bytes(road: tuple[Store, SiteSpec], ray_cluster: Cluster, tmp_path: Path) -> None:
    store, site = road
    other = Store(str(tmp_path / "other"))
    assert listing(other, ray_cluster, site, "cc3m").digest == get(store, "listing/cc3m").digest
    there, here = pool(other, ray_cluster, site, "cc3m"), get(store, "pool/cc3m")
    for one, two in zip(there.parts, here.parts, strict=True):
        rows = read_table(other, there, one, "outcomes").to_pylist()
        assert rows == read_table(store, here, two, "outcomes").to_pylist()
    assert there.digest == here.digest


def test_own_lists_of_every_kind_are_read(store: Store, tmp_path: Path) -> None:
    table = pa.table({"link": ["http://a/1", "http://a/2", None], "alt": ["One picture.", " ", "Three."]})
    pq.write_table(table, tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text("link,alt\nhttp://a/1,One picture.\nhttp://a/2, \n,Three.\n")
    (tmp_path / "list.tsv").write_text("link\talt\nhttp://a/1\tOne picture.\nhttp://a/2\t \n\tThree.\n")
    rows = [{"link": "http://a/1", "alt": "One picture."}, {"link": "http://a/2", "alt": " "}, {"alt": "Three."}]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    columns = ColumnNames(url="link", caption="alt").model_dump()
    for kind in ("parquet", "csv", "tsv", "jsonl"):
        name = f"listing/{kind}"
        path = str(tmp_path / f"list.{kind}")
        found = make(store, InlineCluster(), "list_urls", name, source=kind, paths=[path], columns=columns)
        assert (found.ledger.listed, found.ledger.kept, found.ledger.rejected) == (3, 1, 2)
        assert found.totals["rejected"] == {"no_url": 1, "no_caption": 1}


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"a,b\n1,2\n", "x.csv", "no column 'url', only a, b"),
        (b"url,caption\n", "x.csv", "is empty"),
        (b"not parquet", "x.parquet", "cannot be read"),
        (b"x", "x.xls", "unknown kind of file"),
    ],
)
def test_bad_lists_are_named_with_the_next_move(
    store: Store, tmp_path: Path, content: bytes, name: str, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=says):
        make(store, InlineCluster(), "list_urls", "listing/x", source="x", paths=[str(tmp_path / name)])
    with pytest.raises(ManifestError, match="no file matches"):
        make(store, InlineCluster(), "list_urls", "listing/x", source="x", paths=[str(tmp_path / "absent*.csv")])


def test_a_list_without_one_usable_row_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,caption\n,One.\nhttp://a/2,\n")
    with pytest.raises(ManifestError, match=r"source x: all 2 rows were rejected .*'no_url': 1, 'no_caption': 1"):
        make(store, InlineCluster(), "list_urls", "listing/x", source="x", paths=[str(tmp_path / "list.csv")])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/1.jpg", r"2 ended as 'refused_address': .*--allow-host HOST:PORT"),
        ("file:///etc/hostname?1", r"2 ended as 'refused_scheme': .*--images"),
    ],
)
def test_when_no_picture_arrives_the_reason_and_the_next_move_are_said(
    store: Store, tmp_path: Path, url: str, says: str
) -> None:
    (tmp_path / "list.csv").write_text(f"url,caption\n{url},One.\n{url},Two.\n")
    make(store, InlineCluster(), "list_urls", "listing/x", source="x", paths=[str(tmp_path / "list.csv")])
    with pytest.raises(ManifestError, match=r"none of the 2 rows of listing/x@v1 gave a picture; " + says):
        make(store, InlineCluster(), "download", "pool/x", ("listing/x",), image_size=32)
    assert not store.exists("pool/x/v1/manifest.json")


def test_too_few_pictures_and_too_strict_rules_are_refused(road: tuple[Store, SiteSpec]) -> None:
    store, _ = road
    with pytest.raises(
        ManifestError, match=r"hold \d+ pictures; a filtering network needs at least 1032: bring more"
    ):
        make(store, InlineCluster(), "filtering_network", "checkpoints/few", ("pool/cc3m",), held_out=1000, steps=1,
             global_batch_size=32)  # fmt: skip
    strict = clean(min_similarity=1).model_dump(mode="json")
    needs = ("signals/cc3m", "pool/cc3m")
    make(store, InlineCluster(), "filter", "verdicts/strict/cc3m", needs, source="cc3m", policy=strict)
    with pytest.raises(ManifestError, match=r"policy strict kept no row of \d+; loosen its thresholds"):
        make(
            store, InlineCluster(), "write_shards", "shards/strict", ("verdicts/strict/cc3m", *needs), policy="strict"
        )
    store.remove("verdicts/strict")


def test_pictures_that_are_already_there_need_no_network(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        draw(sample_scene(0, number, Split.TRAIN), 64).save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text(f"Picture number {number}.")
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "bad.txt").write_text("A broken one.")
    make(store, InlineCluster(), "list_urls", "listing/own", source="own", images=str(folder))
    found = make(store, InlineCluster(), "download", "pool/own", ("listing/own",), image_size=32, images=str(folder))
    assert found.totals["outcomes"] == {"fetched": 3, "not_image": 1}
    assert (found.ledger.listed, found.ledger.kept, found.ledger.failed) == (4, 3, 1)
