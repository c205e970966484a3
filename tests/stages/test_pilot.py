"""A pilot is drawn by hash: the same urls everywhere, unbiased, with all of their rows."""

from pathlib import Path

import pytest
from pool_by_contract import Row, list_rows

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import pilot
from stages.manifest import Manifest, ManifestError
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.workspace import read_table


def draw(store: Store, urls: int, version: str = "v1", **given: int) -> Manifest:
    spec = StageSpec(
        stage="pilot",
        artifact=Ref(name="listing/pilot/own", version=version),
        parameters={"urls": urls, **given},
        inputs=(Ref(name="listing/own", version="v1"),),
    )
    return materialize(spec, store, InlineCluster(), progress=False)


def urls_of(store: Store, manifest: Manifest) -> list[str]:
    return [url for part in manifest.parts for url in read_table(store, manifest, part, "rows")["url"].to_pylist()]


def rows(parts: int, each: int) -> list[list[Row]]:
    """Return parts in which every tenth url has two captions."""
    return [
        [Row(f"http://h/{p}/{n}") for n in range(each)]
        + [Row(f"http://h/{p}/{n}", caption="other") for n in range(0, each, 10)]
        for p in range(parts)
    ]


def test_a_pilot_holds_so_many_urls_with_all_their_rows(store: Store) -> None:
    list_rows(store, rows(4, 50), rejected=6)
    made = draw(store, 60)
    found = urls_of(store, made)
    assert len(set(found)) == 60 == made.totals["urls"] and len(found) == made.totals["rows"] == made.ledger.kept
    every = {url for part in rows(4, 50) for url in [row.url for row in part if row.caption == "other"]}
    for url in set(found):
        assert found.count(url) == (2 if url in every else 1)
    assert made.totals["whole"] == {"listed": 226, "rows": 220, "urls": 200}


def test_it_does_not_depend_on_how_the_list_was_cut(tmp_path: Path) -> None:
    whole = [row for part in rows(4, 50) for row in part]
    found = []
    for name, parts in (("a", rows(4, 50)), ("b", [whole[::-1]])):
        store = Store(str(tmp_path / name))
        list_rows(store, parts)
        made = draw(store, 60)
        found.append((sorted(urls_of(store, made)), [part.files["rows"].sha256 for part in made.parts]))
    assert found[0] == found[1], "the same urls, the same bytes"


def test_a_larger_pilot_holds_the_smaller_one(store: Store) -> None:
    list_rows(store, rows(4, 50))
    assert set(urls_of(store, draw(store, 20))) < set(urls_of(store, draw(store, 60, "v2")))


def test_rows_of_one_url_lie_in_one_part(store: Store) -> None:
    list_rows(store, rows(2, 50))
    made = draw(store, 100, urls_per_part=7)
    assert len(made.parts) == 15
    seen = [set(read_table(store, made, part, "rows")["url"].to_pylist()) for part in made.parts]
    assert sum(map(len, seen)) == 100 == len(set().union(*seen))
    assert [part.key for part in made.parts] == sorted(part.key for part in made.parts)


def test_a_short_list_is_taken_whole(store: Store) -> None:
    list_rows(store, rows(1, 5))
    assert draw(store, 10_000).totals["urls"] == 5


def test_of_a_long_list_some_parts_stand_for_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilot, "MOST_PARTS", 10)
    list_rows(store, [[Row(f"http://h/{p}/{n // 2}", caption=str(n)) for n in range(20)] for p in range(40)])
    made = draw(store, 30)
    assert made.totals["urls"] == 30 and made.totals["whole"] == {"listed": 800, "rows": 800, "urls": 400}
    parts = {url.split("/")[3] for url in urls_of(store, made)}
    assert 5 < len(parts) <= 10 and parts != set(map(str, range(10))), "drawn by hash, not the first ones"


def test_a_pilot_is_unbiased(store: Store) -> None:
    """Half of the urls are of one host: of 400 drawn ones about half are, too (4 standard deviations)."""
    list_rows(store, [[Row(f"http://{'even' if n % 2 else 'odd'}/{p}-{n}") for n in range(500)] for p in range(8)])
    share = sum("even" in url for url in urls_of(store, draw(store, 400))) / 400
    assert abs(share - 0.5) < 0.1


def test_nothing_can_be_drawn_from_nothing(store: Store) -> None:
    list_rows(store, [[]], rejected=3)
    with pytest.raises(ManifestError, match="listing/own@v1 holds no rows to draw a pilot from"):
        draw(store, 10)
