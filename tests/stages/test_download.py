"""The download stage on a small web: one fetch per address, hashes held, and passes that ask only for what is due."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_web import SmallWeb, drawn, jpeg, small_web

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.advice import ADVICE
from stages.download import Parameters, class_of, pin
from stages.list_urls import SCHEMA
from stages.manifest import Ledger, Manifest, ManifestError, digest_of, load
from stages.materialize import StageSpec, materialize
from stages.outcome import REJECTED, TRANSIENT, Outcome
from stages.ref import Ref
from stages.sources.identity import uid_of, url_id_of
from stages.tars import read_tar
from stages.workspace import Output, parquet_bytes, read_file, read_table


@pytest.fixture
def web() -> Iterator[SmallWeb]:
    with small_web() as found:
        yield found


def listing(store: Store, rows: list[dict[str, Any]], version: str = "v1", parts: int = 2) -> Manifest:
    """Publish a listing as list_urls does: rows of one address in one part."""
    full: list[dict[str, Any]] = []
    for row in rows:
        names = {"uid": uid_of("s", row["url"], row["caption"]), "url_id": url_id_of(row["url"])}
        full.append({**names, **row})
    output = Output(store, Ref(name="listing/s", version=version), "list_urls", {"inputs": {}})
    schema = SCHEMA
    for name in ("host", "expected_hash"):
        if name not in schema.names and any(name in row for row in rows):
            schema = schema.append(pa.field(name, pa.string()))
    made = []
    for number in range(parts):
        inside = [row for row in full if row["url_id"][0] % parts == number]
        table = pa.Table.from_pylist(inside, schema=schema)
        ledger = Ledger(listed=len(inside), kept=len(inside))
        digest = digest_of([row["uid"].hex() for row in inside])
        made.append(
            output.part(f"{number:06d}", digest, ledger, {"rows": (f"{number}.parquet", parquet_bytes(table))})
        )
    return output.commit(made)


def pool(store: Store, web: SmallWeb, version: str = "v1", earlier: str | None = None, **given: Any) -> Manifest:
    inputs = [Ref(name="listing/s", version=given.pop("listing", "v1"))]
    inputs += [Ref(name="pool/s", version=earlier)] if earlier else []
    parameters = {"image_size": 32, "allow_hosts": [web.host], "retries": 0, "threads": 4, **given}
    spec = StageSpec(
        stage="download", artifact=Ref(name="pool/s", version=version), parameters=parameters, inputs=tuple(inputs)
    )
    return materialize(spec, store, InlineCluster())


def outcomes(store: Store, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the rows of all parts by caption, which the listing holds."""
    captions = {}
    for name in store.folders("listing/s"):
        found = load(store, Ref(name="listing/s", version=name))
        for part in found.parts:
            captions |= {row["uid"]: row["caption"] for row in read_table(store, found, part, "rows").to_pylist()}
    rows: dict[str, dict[str, Any]] = {}
    for part in manifest.parts:
        table = read_table(store, manifest, part, "outcomes")
        assert table["uid"].to_pylist() == sorted(table["uid"].to_pylist())
        rows |= {captions[row["uid"]]: row for row in table.to_pylist()}
    return rows


def words(store: Store, manifest: Manifest) -> dict[str, str]:
    return {caption: row["outcome"] for caption, row in sorted(outcomes(store, manifest).items())}


def pictures(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """Return the stored pictures by caption."""
    return {
        members["txt"].decode(): members["jpg"]
        for part in manifest.parts
        for _, members in read_tar(read_file(store, manifest, part.files["pictures"]))
    }


def row(web: SmallWeb, path: str, caption: str, **more: Any) -> dict[str, Any]:
    return {"url": web.url(path), "caption": caption, **more}


def test_one_fetch_serves_every_row_of_an_address(store: Store, web: SmallWeb) -> None:
    body = jpeg(1, (320, 200))
    web.pages = {"/1": (200, body), "/2": (200, jpeg(2))}
    listing(store, [row(web, "/1", f"caption {n}") for n in range(5)] + [row(web, "/2", "two"), row(web, "/3", "no")])
    made = pool(store, web)
    assert {path: web.asked[path] for path in ("/1", "/2", "/3")} == {"/1": 1, "/2": 1, "/3": 1}
    assert made.totals["outcomes"] == {"fetched": 6, "not_found": 1}
    assert made.totals["urls"] == {"listed": 7, "distinct": 3}
    assert made.totals["classes"] == {"fetched": 6, "permanent": 1}
    assert len(pictures(store, made)) == 6
    found = outcomes(store, made)["caption 3"]
    assert found | {"uid": 0, "sha256": 0, "bytes": 0, "phash": 0} == {
        "uid": 0, "sha256": 0, "bytes": 0, "url_id": url_id_of(web.url("/1")), "host": "127.0.0.1",
        "outcome": "fetched",
        "http_status": 200, "attempt": 1, "width": 51, "height": 32, "original_width": 320, "original_height": 200,
        "body_bytes": len(body), "body_sha256": hashlib.sha256(body).hexdigest(), "phash": 0,
        "first_sha256": hashlib.sha256(body).hexdigest(), "frames": 1, "decoded_share": 1.0,
    }  # fmt: skip
    stored = pictures(store, made)["caption 3"]
    assert (found["bytes"], found["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert (found["phash"] ^ int(str(imagehash.phash(drawn(1, (320, 200)))), 16)).bit_count() <= 2


def test_animations_and_cut_pictures_are_told_from_others(store: Store, web: SmallWeb) -> None:
    moving, whole = io.BytesIO(), jpeg(1, (320, 200))
    drawn(1).save(moving, "GIF", save_all=True, append_images=[drawn(2), drawn(3)])
    web.pages = {
        "/gif": (200, moving.getvalue()),
        "/whole": (200, whole),
        "/cut": (200, whole[: len(whole) * 3 // 4]),
    }
    listing(store, [row(web, f"/{name}", name) for name in ("gif", "whole", "cut", "gone")])
    told = {name: (row["frames"], row["decoded_share"]) for name, row in outcomes(store, pool(store, web)).items()}
    assert told == {"gif": (3, 1), "whole": (1, 1), "cut": (None, None), "gone": (None, None)}
    made = pool(store, web, "v2", min_decoded_share=0.25)
    cut = outcomes(store, made)["cut"]
    assert cut["outcome"] == "fetched" and cut["frames"] == 1 and 0.25 <= cut["decoded_share"] < 1
    assert (cut["original_width"], cut["original_height"]) == (320, 200)
    stored = Image.open(io.BytesIO(pictures(store, made)["cut"]))
    assert stored.size == (cut["width"], cut["height"]) and cut["width"] / cut["height"] > 320 / 200


def test_a_pool_from_before_a_setting_was_there_can_be_asked_again(store: Store, web: SmallWeb) -> None:
    web.pages = {"/1": (200, jpeg(1))}
    web.pages["/2"] = (503, b"")
    listing(store, [row(web, "/1", "one"), row(web, "/2", "two")], parts=1)
    first = pool(store, web)
    (part,) = first.parts
    table = read_table(store, first, part, "outcomes").drop_columns(["frames", "decoded_share"])
    given = {name: value for name, value in first.identity["parameters"].items() if name != "min_decoded_share"}
    old = Output(store, Ref(name="pool/s", version="old"), "download", first.identity | {"parameters": given})
    tar = read_file(store, first, part.files["pictures"])
    files = {"outcomes": ("0.parquet", parquet_bytes(table)), "pictures": ("0.tar", tar)}
    old.commit([old.part(part.key, "d", part.ledger, files)])
    web.pages["/2"] = (200, jpeg(2))
    found = outcomes(store, pool(store, web, "v2", "old", retry=["server_error"]))
    assert {name: row["frames"] for name, row in found.items()} == {"one": None, "two": 1}
    with pytest.raises(ManifestError, match="min_decoded_share"):
        pool(store, web, "v3", "old", retry=["server_error"], min_decoded_share=0.5)


def test_clock_values_lie_beside_the_parts(store: Store, web: SmallWeb) -> None:
    web.pages = {"/1": (200, jpeg(1))}
    listing(store, [row(web, "/1", "one"), row(web, "/2", "two")], parts=1)
    made = pool(store, web)
    table = pq.read_table(io.BytesIO(store.read("pool/s/v1/measures/000000.parquet")))
    rows = {row["uid"]: row for row in table.to_pylist()}
    one, two = (rows[uid_of("s", web.url(path), caption)] for path, caption in (("/1", "one"), ("/2", "two")))
    assert (one["host"], one["tries"], one["body_bytes"]) == ("127.0.0.1", 1, len(jpeg(1)))
    assert one["latency_ms"] >= 0 and two["body_bytes"] is None
    assert not any("measures" in file.name for file in made.files())
    other = Store(str(Path(store.root).parent / "other"))
    listing(other, [row(web, "/1", "one"), row(web, "/2", "two")], parts=1)
    assert pool(other, web, threads=4).digest == made.digest


def test_a_body_that_is_not_the_listed_one_is_not_stored(store: Store, web: SmallWeb) -> None:
    body = jpeg(1)
    md5, sha256 = hashlib.md5(body, usedforsecurity=False).hexdigest(), hashlib.sha256(body).hexdigest()
    web.pages = {"/1": (200, body), "/page": (200, b"<html>")}
    hashes = {
        "md5": f"md5:{md5}", "sha256": f"sha256:{sha256.upper()}", "none": None,
        "wrong md5": f"md5:{'0' * 32}", "wrong sha256": f"sha256:{'0' * 64}",
    }  # fmt: skip
    rows = [row(web, "/1", caption, expected_hash=value) for caption, value in hashes.items()]
    listing(store, [*rows, row(web, "/page", "page", expected_hash=f"md5:{md5}")])
    made = pool(store, web)
    assert words(store, made) == {
        "md5": "fetched", "none": "fetched", "page": "not_image", "sha256": "fetched",
        "wrong md5": "hash_mismatch", "wrong sha256": "hash_mismatch",
    }  # fmt: skip
    assert sorted(pictures(store, made)) == ["md5", "none", "sha256"] and web.asked["/1"] == 1
    wrong = outcomes(store, made)["wrong md5"]
    assert wrong["bytes"] is None and wrong["width"] is None and wrong["body_sha256"] == sha256
    assert (made.ledger.kept, made.ledger.rejected, made.ledger.failed) == (3, 2, 1)


def test_an_expected_hash_of_another_kind_is_named(store: Store, web: SmallWeb) -> None:
    web.pages = {"/1": (200, jpeg(1))}
    listing(store, [row(web, "/1", "one", expected_hash="crc32:1234")])
    with pytest.raises(ManifestError, match=r"expected_hash holds 'crc32:1234'; it may hold md5:HEX"):
        pool(store, web)


def test_what_an_operator_blocks_is_counted_and_never_stored(store: Store, web: SmallWeb, tmp_path: Path) -> None:
    web.pages = {f"/{n}": (200, jpeg(n)) for n in range(3)}
    listing(store, [row(web, f"/{n}", f"caption {n}") for n in range(3)])
    path = tmp_path / "blocked.txt"
    path.write_text(f"# of our own\n{hashlib.sha256(jpeg(0)).hexdigest()}  # one body\n\n")
    made = pool(store, web, blocked_hashes=str(path))
    assert words(store, made) == {"caption 0": "blocked", "caption 1": "fetched", "caption 2": "fetched"}
    assert sorted(pictures(store, made)) == ["caption 1", "caption 2"] and made.ledger.rejected == 1
    # A hash that is added later takes the picture away that was carried over.
    phash = outcomes(store, made)["caption 1"]["phash"]
    path.write_text(path.read_text() + f"{phash:016x}\n")
    again = pool(store, web, "v2", "v1", blocked_hashes=str(path), retry=["timeout"])
    assert words(store, again) == {"caption 0": "blocked", "caption 1": "blocked", "caption 2": "fetched"}
    assert sorted(pictures(store, again)) == ["caption 2"] and set(web.asked.values()) == {1}
    assert outcomes(store, again)["caption 1"]["bytes"] is None


def test_block_lists_hold_behind_redirects(store: Store, web: SmallWeb, tmp_path: Path) -> None:
    web.pages = {"/1": (200, jpeg(1)), "/2": (200, jpeg(2)), "/unwanted": (200, jpeg(3))}
    web.moved = {"/to-address": web.url("/unwanted"), "/to-domain": "http://a.blocked.test/1", "/to-1": web.url("/1")}
    listing(store, [row(web, path, path) for path in ("/1", "/2", "/to-address", "/to-domain", "/to-1")])
    (tmp_path / "urls.txt").write_text(f"{web.url('/unwanted')}\n{web.url('/2')}\n")
    (tmp_path / "domains.txt").write_text("blocked.test\n")
    lists = {"block_urls": [str(tmp_path / "urls.txt")], "block_domains": [str(tmp_path / "domains.txt")]}
    made = pool(store, web, **lists)
    blocked = dict.fromkeys(("/2", "/to-address", "/to-domain"), "blocked")
    assert words(store, made) == {"/1": "fetched", "/to-1": "fetched", **blocked}
    assert sorted(pictures(store, made)) == ["/1", "/to-1"] and "/2" not in web.asked
    assert made.ledger.rejected == 3


def test_other_block_lists_are_another_result_and_bad_ones_are_named(
    store: Store, web: SmallWeb, tmp_path: Path
) -> None:
    path = tmp_path / "domains.txt"
    path.write_text("a.example\n")
    one = pin(Parameters(block_domains=(str(path),)))
    path.write_text("b.example\n")
    assert pin(Parameters(block_domains=(str(path),))) != one and pin(one) == one
    listing(store, [row(web, "/1", "one")])
    with pytest.raises(ManifestError, match="are not the block-lists that this run began with"):
        pool(store, web, **one.model_dump(include={"block_domains", "addresses_digest"}))
    path.write_text("http://b.example/1\n")
    with pytest.raises(ManifestError, match=r"domains\.txt line 1: .* is no domain"):
        pool(store, web, block_domains=[str(path)])
    assert not web.asked


def test_another_list_of_blocked_hashes_is_another_result(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("0" * 64)
    one = pin(Parameters(blocked_hashes=str(path)))
    path.write_text("1" * 64)
    assert pin(Parameters(blocked_hashes=str(path))) != one and pin(Parameters()) == Parameters()


@pytest.mark.parametrize(
    ("content", "says"),
    [("g" * 64, r"line 1 is no hash; give 64"), ("#\n12", "line 2 is no hash"), (None, "cannot be read")],
)
def test_a_bad_list_of_hashes_is_named(
    store: Store, web: SmallWeb, tmp_path: Path, content: str | None, says: str
) -> None:
    listing(store, [row(web, "/1", "one")])
    if content is not None:
        (tmp_path / "blocked.txt").write_text(content)
    with pytest.raises(ManifestError, match=says):
        pool(store, web, blocked_hashes=str(tmp_path / "blocked.txt"))
    assert not web.asked


@pytest.fixture
def first_pass(store: Store, web: SmallWeb) -> Manifest:
    """One row of each kind: fetched, mendable, final."""
    web.pages = {
        "/good": (200, jpeg(1)), "/busy": (503, b""), "/slow": (429, b""), "/gone": (410, b""),
        "/page": (200, b"<html>"),
    }  # fmt: skip
    listing(store, [row(web, f"/{name}", name) for name in ("good", "busy", "slow", "gone", "page", "absent")])
    made = pool(store, web)
    assert words(store, made) == {
        "absent": "not_found", "busy": "server_error", "gone": "gone", "good": "fetched", "page": "not_image",
        "slow": "rate_limited",
    }  # fmt: skip
    assert made.totals["classes"] == {"fetched": 1, "permanent": 3, "transient": 2}
    return made


def test_a_later_pass_asks_only_for_what_may_have_mended(store: Store, web: SmallWeb, first_pass: Manifest) -> None:
    web.asked.clear()
    # Everything would be answered now; what is final or here already is not even asked for.
    web.pages = {f"/{name}": (200, jpeg(n)) for n, name in enumerate(("good", "busy", "gone", "page", "absent"), 1)}
    web.pages["/slow"] = (429, b"")
    made = pool(store, web, "v2", "v1", retry=sorted(TRANSIENT))
    assert dict(web.asked) == {"/busy": 1, "/slow": 1}
    found, before = outcomes(store, made), outcomes(store, first_pass)
    assert words(store, made) == words(store, first_pass) | {"busy": "fetched"}
    assert {caption: each["attempt"] for caption, each in found.items() if each["attempt"] != 1} == {
        "busy": 2,
        "slow": 2,
    }
    carried = set(found) - {"busy", "slow"}
    assert {caption: found[caption] for caption in carried} == {caption: before[caption] for caption in carried}
    assert pictures(store, made)["good"] == pictures(store, first_pass)["good"]
    assert made.totals["again"] == {"asked": 2} and made.ledger.kept == 2
    # And a third one, from the second.
    web.asked.clear()
    web.pages["/slow"] = (200, jpeg(9))
    third = pool(store, web, "v3", "v2", retry=["rate_limited"])
    assert dict(web.asked) == {"/slow": 1} and outcomes(store, third)["slow"]["attempt"] == 3
    assert third.ledger.kept == 3


def test_only_the_named_outcomes_are_asked_again(store: Store, web: SmallWeb, first_pass: Manifest) -> None:
    web.asked.clear()
    pool(store, web, "v2", "v1", retry=["server_error"])
    assert dict(web.asked) == {"/busy": 1}


@pytest.mark.parametrize("policy", ["keep", "refuse"])
def test_a_picture_that_changed_since_it_was_first_seen(store: Store, web: SmallWeb, policy: str) -> None:
    names = ("same", "swapped", "lost", "forbidden")
    web.pages = {f"/{name}": (200, jpeg(n)) for n, name in enumerate(names)}
    listing(store, [row(web, f"/{name}", name) for name in names])
    first = pool(store, web)
    web.pages |= {"/swapped": (200, jpeg(7)), "/lost": (404, b"")}
    web.pages |= {"/forbidden": (302, b"")}
    made = pool(store, web, "v2", "v1", retry=["fetched"], compare_with_first=policy)
    assert made.totals["again"] == {"asked": 4, "changed": 1, "kept": 2, "same": 1}
    assert made.ledger.kept == 4 and set(words(store, made).values()) == {"fetched"}
    before, now = pictures(store, first), pictures(store, made)
    assert all(now[name] == before[name] for name in ("same", "lost", "forbidden"))
    found = outcomes(store, made)
    assert found["lost"] == outcomes(store, first)["lost"] and found["same"]["attempt"] == 2
    if policy == "keep":
        assert now["swapped"] != before["swapped"]
    else:
        assert now["swapped"] == before["swapped"] and found["swapped"] == outcomes(store, first)["swapped"]


def test_bodies_are_compared_with_the_first_and_not_with_the_last(store: Store, web: SmallWeb) -> None:
    listing(store, [row(web, "/1", "one")], parts=1)
    seen = []
    for number, body in enumerate((jpeg(1), jpeg(2), jpeg(2), jpeg(1)), start=1):
        web.pages = {"/1": (200, body)}
        earlier = {"earlier": f"v{number - 1}", "retry": ["fetched"]} if number > 1 else {}
        made = pool(store, web, f"v{number}", **earlier)
        found = outcomes(store, made)["one"]
        assert found["first_sha256"] == hashlib.sha256(jpeg(1)).hexdigest()
        assert found["body_sha256"] == hashlib.sha256(body).hexdigest()
        seen.append(made.totals.get("again"))
    changed, same = {"asked": 1, "changed": 1}, {"asked": 1, "same": 1}
    assert seen == [None, changed, changed, same]


def test_a_pool_from_before_first_hashes_were_kept_starts_with_its_own(store: Store, web: SmallWeb) -> None:
    web.pages = {"/1": (200, jpeg(1))}
    listing(store, [row(web, "/1", "one")], parts=1)
    first = pool(store, web)
    (part,) = first.parts
    table = read_table(store, first, part, "outcomes").drop_columns(["first_sha256"])
    old = Output(store, Ref(name="pool/s", version="old"), "download", first.identity)
    tar = read_file(store, first, part.files["pictures"])
    files = {"outcomes": ("0.parquet", parquet_bytes(table)), "pictures": ("0.tar", tar)}
    old.commit([old.part(part.key, "d", part.ledger, files)])
    web.pages = {"/1": (200, jpeg(2))}
    made = pool(store, web, "v2", "old", retry=["fetched"])
    assert made.totals["again"] == {"asked": 1, "changed": 1}
    assert outcomes(store, made)["one"]["first_sha256"] == hashlib.sha256(jpeg(1)).hexdigest()


def test_a_listed_hash_refuses_in_every_pass(store: Store, web: SmallWeb) -> None:
    web.pages = {"/1": (200, jpeg(1))}
    expected = f"sha256:{hashlib.sha256(jpeg(1)).hexdigest()}"
    listing(store, [row(web, "/1", "one", expected_hash=expected), row(web, "/1", "two")])
    pool(store, web)
    web.pages = {"/1": (200, jpeg(2))}
    made = pool(store, web, "v2", "v1", retry=["fetched"], compare_with_first="refuse")
    assert words(store, made) == {"one": "hash_mismatch", "two": "fetched"} and made.ledger.rejected == 1


def test_final_outcomes_cannot_be_named(store: Store, web: SmallWeb) -> None:
    with pytest.raises(
        ValueError, match=r"blocked, not_found is final and never asked again; retry takes connect, dns"
    ):
        Parameters(retry=(Outcome.NOT_FOUND, Outcome.DNS, Outcome.BLOCKED))


def test_a_pass_that_does_not_fit_is_refused_before_any_request(
    store: Store, web: SmallWeb, first_pass: Manifest
) -> None:
    web.asked.clear()
    with pytest.raises(ManifestError, match="needs an earlier version of the pool as an input, and was given none"):
        pool(store, web, "v2", retry=["dns"])
    with pytest.raises(ManifestError, match="nothing of it is asked again; name outcomes in retry"):
        pool(store, web, "v2", "v1")
    with pytest.raises(
        ManifestError, match=r"stores pictures with another image_size; .* give the same, image_size=32"
    ):
        pool(store, web, "v2", "v1", retry=["server_error"], image_size=64)
    listing(store, [row(web, "/good", "good")], version="v2")
    with pytest.raises(ManifestError, match=r"made from another version of listing/s than listing/s@v2"):
        pool(store, web, "v2", "v1", retry=["server_error"], listing="v2")
    assert not web.asked and not store.exists("pool/s/v2/manifest.json")


def test_every_outcome_has_a_class_and_advice_for_people() -> None:
    classes = {each: class_of(each) for each in Outcome}
    assert {each for each, name in classes.items() if name == "rejected"} == REJECTED
    assert {each for each, name in classes.items() if name == "transient"} == TRANSIENT
    assert set(ADVICE) == set(Outcome) - {Outcome.FETCHED}


@pytest.mark.parametrize(("status", "says"), [(404, "addresses are old"), (403, "contact"), (429, "per_host")])
def test_when_nothing_arrives_the_advice_fits(store: Store, web: SmallWeb, status: int, says: str) -> None:
    web.pages = {"/1": (status, b"")}
    listing(store, [row(web, "/1", "one")])
    with pytest.raises(ManifestError, match=rf"none of the 1 rows of listing/s@v1 gave a picture; .*{says}"):
        pool(store, web)
