"""The pages of a download: each row in one rung and one outcome, remote words escaped, no clock in what is hashed."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pool_by_contract import Row, list_rows, outcomes_of, pool_output, publish_part

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import download_tally
from stages.download_hosts import FEWEST, refusing, refusing_times, slowest
from stages.download_report import LIVE, markdown, opt_outs, outcome_rows, passes, render, report, rungs
from stages.download_tally import bin_of, merge, quantile, seconds_of, tally
from stages.manifest import Ledger, Manifest
from stages.outcome import REJECTED, TRANSIENT, Outcome, ledger_of
from stages.outcome_words import LADDER, UNASKED, WORDS, class_of, ladder
from stages.workspace import Workspace, parquet_bytes

HOSTILE = "<img src=x onerror=alert(1)>.example"


def some_parts() -> list[list[Row]]:
    """Return four parts: a good host, one that refuses, a slow one, a hostile name, one url with two captions."""
    parts: list[list[Row]] = []
    for p in range(4):
        rows = [Row(f"https://good.example/{p}-{n}", latency=80 + n) for n in range(40)]
        rows += [Row(f"https://walls.example/{p}-{n}", "forbidden", latency=30) for n in range(10)]
        rows += [Row(f"https://slow.example/{p}-{n}", "timeout", latency=20_000, tries=2) for n in range(6)]
        rows += [Row(f"https://{HOSTILE}/{p}", "rate_limited"), Row(f"https://gone.example/{p}", "dns", latency=None)]
        rows += [Row(f"https://good.example/{p}-0", caption="another caption")]
        parts.append(rows)
    return parts


def made(store: Store, factor: float = 1.0, order: int = 1) -> tuple[Manifest, Any, list[Any]]:
    listing = list_rows(store, some_parts(), rejected=20)
    output = pool_output(store)
    pairs = list(zip(listing.parts, some_parts(), strict=True))[::order]
    parts = [publish_part(output, part.key, part.input_digest, rows, factor) for part, rows in pairs]
    return listing, output, parts


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_words_a_rung_and_a_class(outcome: Outcome) -> None:
    words = WORDS[outcome]
    assert words.meaning.endswith(".") and class_of(outcome) in ("kept", "rejected", "may come back", "failed")
    assert (words.lost_at in [rung.name for rung in LADDER[1:]]) is (outcome is not Outcome.FETCHED)
    assert (class_of(outcome) == "may come back") is (outcome in TRANSIENT)
    assert ("later pass" in words.next_move) is (outcome in TRANSIENT)
    assert (class_of(outcome) == "rejected") is (outcome in REJECTED)
    # What is reached without a request was refused by a rule, not by the web.
    assert outcome not in UNASKED or outcome in REJECTED


def test_the_ladder_loses_every_row_once() -> None:
    """With one row of each outcome, and seven that the listing refused, each rung is what the words say."""
    outcomes = {str(outcome): 1 for outcome in Outcome}
    rows = ladder(len(Outcome) + 7, outcomes)
    lost = Counter(words.lost_at for words in WORDS.values())
    assert rows["listed"] - rows["permitted"] == 7 + lost["permitted"] == 12
    assert rows["permitted"] - rows["attempted"] == lost["attempted"] == 1
    assert rows["attempted"] - rows["fetched"] == lost["fetched"] == 15
    assert rows["fetched"] - rows["decodable"] == lost["decodable"] == 3
    assert rows["decodable"] == outcomes["fetched"]


def test_what_is_decodable_is_what_the_ledger_keeps() -> None:
    draw = np.random.default_rng(3)
    for _ in range(50):
        outcomes = {str(outcome): int(draw.integers(0, 100)) for outcome in Outcome}
        assert ladder(sum(outcomes.values()), outcomes)["decodable"] == ledger_of(outcomes).kept
        steps = rungs(sum(outcomes.values()), outcomes)
        assert all(step["lost"] >= 0 for step in steps)
        assert sum(step["lost"] for step in steps) == sum(outcomes.values()) - outcomes["fetched"]


def test_the_tally_counts_rows_urls_and_bytes(store: Store, tmp_path: Path) -> None:
    _, output, parts = made(store)
    found = tally(parts, output, Workspace(store, InlineCluster(), tmp_path))
    assert found.outcomes == {"dns": 4, "fetched": 164, "forbidden": 40, "rate_limited": 4, "timeout": 24}
    # A url with two captions is asked once, and its picture is stored for both.
    assert found.urls == 232 and found.bytes_in == 160 * 4000 and found.bytes_out == 164 * 1000


def test_many_parts_are_counted_in_chunks_to_the_same_sum(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(InlineCluster):
        def map(self, work: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
            yield from reversed([work(item) for item in items])

    _, output, parts = made(store)
    once = tally(parts, output, Workspace(store, InlineCluster(), tmp_path))
    monkeypatch.setattr(download_tally, "PARTS_PER_FOLD", 1)
    again = tally(parts, output, Workspace(store, Backwards(), tmp_path))
    assert again.rows.equals(once.rows) and again.hosts.equals(once.hosts) and again.times.equals(once.times)
    assert again.bytes_out == once.bytes_out


def test_an_older_pool_without_hosts_is_counted_too(store: Store, tmp_path: Path) -> None:
    output = pool_output(store)
    table = outcomes_of([Row("http://a/1"), Row("http://a/2", "dns")]).select(["uid", "outcome", "bytes"])
    part = output.part(
        "0", "d", Ledger(listed=2, kept=1, failed=1), {"outcomes": ("0.parquet", parquet_bytes(table))}
    )
    found = tally([part], output, Workspace(store, InlineCluster(), tmp_path))
    assert found.outcomes == {"dns": 1, "fetched": 1} and found.urls == 2 and found.times.num_rows == 0
    assert refusing(found.hosts) == [] and slowest(found) == [] and passes(found) == []


def test_no_parts_are_no_rows(store: Store, tmp_path: Path) -> None:
    found = tally([], pool_output(store), Workspace(store, InlineCluster(), tmp_path))
    assert found.outcomes == {} and found.urls == found.bytes_in == 0


def test_a_quantile_of_bins_is_right_to_within_five_percent() -> None:
    draw = np.random.default_rng(1)
    times = draw.lognormal(5, 1.2, 20_000)
    bins, counts = np.unique(bin_of(times), return_counts=True)
    for share in (0.1, 0.5, 0.95):
        exact = float(np.quantile(times, share)) / 1000
        assert quantile(list(map(int, bins)), list(map(int, counts)), share) == pytest.approx(exact, rel=0.05)
    assert bin_of(np.array([0]))[0] == 0 and seconds_of(0) > 0
    assert quantile([5], [1], 0.95) == quantile([5], [1], 0.5) == seconds_of(5)


def test_hosts_are_ranked_by_what_they_refuse_and_how_long_they_take(store: Store, tmp_path: Path) -> None:
    _, output, parts = made(store)
    found = tally(parts, output, Workspace(store, InlineCluster(), tmp_path))
    refused = refusing(found.hosts)
    assert [(row["host"], row["refused"]) for row in refused] == [("walls.example", 40), (HOSTILE, 4)]
    assert refused[0]["main"] == "forbidden 100.0 %" and refused[0]["fetched"] == "0.0 %"
    slow = slowest(found)
    # The hostile host was asked four times: too few to be ranked where others were asked more.
    assert [row["host"] for row in slow] == ["slow.example", "good.example", "walls.example"] and FEWEST == 5
    assert slow[0]["requests"] == 24 and slow[0]["tries"] == 48 and 19 < float(slow[0]["median"][:-2]) < 21
    assert slow[1]["fetched"] == "100.0 %" and slow[1]["bytes_in"] == 160 * 4000
    assert slow[1]["requests"] == 160, "two captions of one url are one request"


def test_hosts_that_refuse_are_timed_too(store: Store, tmp_path: Path) -> None:
    _, output, parts = made(store)
    found = tally(parts, output, Workspace(store, InlineCluster(), tmp_path))
    assert [(row["host"], row["median"]) for row in refusing_times(found)] == [
        ("walls.example", "0.03 s"),
        (HOSTILE, "0.10 s"),
    ]


def test_at_most_twenty_hosts_are_shown(store: Store, tmp_path: Path) -> None:
    output = pool_output(store)
    rows = [Row(f"http://h{n:03d}.example/{m}", "forbidden") for n in range(60) for m in range(2)]
    found = tally([publish_part(output, "0", "d", rows)], output, Workspace(store, InlineCluster(), tmp_path))
    assert len(refusing(found.hosts)) == len(slowest(found)) == 20


def test_a_later_pass_has_a_table_of_its_own(store: Store, tmp_path: Path) -> None:
    output = pool_output(store)
    rows = [Row(f"http://a/{n}") for n in range(7)] + [Row(f"http://b/{n}", attempt=2) for n in range(2)]
    rows += [Row("http://c/1", "dns", attempt=2)]
    found = tally([publish_part(output, "0", "d", rows)], output, Workspace(store, InlineCluster(), tmp_path))
    first, second = passes(found)
    assert (first["rows"], first["fetched"]) == (7, 7)
    assert (second["rows"], second["fetched"], second["may_come_back"]) == (3, 2, 1)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.links = Counter[str](), Counter[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def pages(store: Store, tmp_path: Path) -> tuple[dict[str, Any], str, str]:
    listing, output, parts = made(store)
    told, found = report(listing, parts, {"kept": 1}, output, Workspace(store, InlineCluster(), tmp_path))
    return told, found["download_report"][1].decode(), store.read(output.ref.key(LIVE)).decode()


def test_pages_are_self_contained_and_escape_what_comes_from_outside(store: Store, tmp_path: Path) -> None:
    _, page, live = pages(store, tmp_path)
    for text in (page, live):
        parsed = _Page(text)
        assert not {"script", "img", "iframe", "link", "form"} & set(parsed.tags)
        assert not [name for name in parsed.attributes if name.startswith("on") or name == "style"]
        assert "default-src 'none'" in text and "style-src 'sha256-" in text and len(text) < 300_000
        assert parsed.links == (["../reports-live/hosts.html"] if text is page else [])
    assert all("&lt;img src=x onerror=alert(1)&gt;.example" in text for text in (page, live))


def test_a_host_cannot_reorder_the_line_that_it_stands_in(store: Store, tmp_path: Path) -> None:
    output = pool_output(store)
    part = publish_part(output, "0", "d", [Row("http://\u202egro.live\u202c/1", "forbidden")])
    found = tally([part], output, Workspace(store, InlineCluster(), tmp_path))
    listing = list_rows(store, [[Row("http://x/1")]])
    page = render(source="own", listing=listing, found=found, provenance={}).decode()
    assert "\u202e" not in page and "[RLO]gro.live[PDF]" in page


def test_the_page_says_what_happened_and_what_to_do(store: Store, tmp_path: Path) -> None:
    told, page, live = pages(store, tmp_path)
    assert "own: 164 of 256 listed rows fetched" in page and "69.5 % of the rows that were asked for" in page
    assert "32 rows failed in a way that can pass" in page
    assert "internvl rerun download --retry transient --source own" in page
    assert "no caption" in page and "The row has no caption." in page
    assert "slow.example" in live and "20." in live and "never paused" in live
    assert told["ladder"] == {"listed": 256, "permitted": 236, "attempted": 236, "fetched": 164, "decodable": 164}
    assert told["kept"] == 1 and told["bytes_in"] == 640_000


def test_the_markdown_names_no_host_and_closes(store: Store, tmp_path: Path) -> None:
    told, _, _ = pages(store, tmp_path)
    text = told["markdown"]
    assert "example" not in text and "| listed | 256 | 100.0 % | 100.0 % |" in text
    assert "| timeout | may come back | 24 |" in text
    rows = [line.split("|")[3:5] for line in text.splitlines() if re.search(r"\| (kept|rejected|failed|may)", line)]
    assert sum(int(cells[0].replace(",", "")) for cells in rows) == 236


def test_what_a_stage_found_itself_stands_below(store: Store, tmp_path: Path) -> None:
    listing, output, parts = made(store)
    told, _ = report(listing, parts, {"markdown": "| planted |"}, output, Workspace(store, InlineCluster(), tmp_path))
    assert told["markdown"].endswith("| planted |\n") and told["markdown"].startswith("### own: download")


def test_no_clock_and_no_order_gets_into_the_manifest(tmp_path: Path) -> None:
    """Twice as slow, in another order: the same manifest, and another page of times."""
    digests, lives = set(), set()
    for name, factor, order in (("a", 1.0, 1), ("b", 2.0, -1)):
        store = Store(str(tmp_path / name))
        listing, output, parts = made(store, factor, order)
        told, found = report(listing, parts, {}, output, Workspace(store, InlineCluster(), tmp_path))
        digests.add(output.commit(parts, totals=told, reports=found).digest)
        lives.add(store.read(output.ref.key(LIVE)))
    assert len(digests) == 1 and len(lives) == 2


def test_outcomes_are_grouped_by_class_and_sorted_by_rows() -> None:
    rows = outcome_rows(
        100, {"fetched": 50, "dns": 5, "timeout": 9, "gone": 3, "blocked": 2, "tls": 0}, {"no_url": 4}
    )
    assert [row["outcome"] for row in rows] == ["fetched", "timeout", "dns", "gone", "blocked", "no url"]
    assert [row["kind"] for row in rows][-2:] == ["rejected", "rejected"] and rows[0]["share"] == "50.0 %"


def test_block_lists_count_at_the_listing_and_at_the_download() -> None:
    found = dict(opt_outs({"robots": 3, "blocked": 2}, {"blocked_url": 5, "blocked_domain": 1, "repeat": 9}))
    assert list(found.values()) == [0, 3, 8]


def test_a_reason_that_nobody_described_is_shown_all_the_same() -> None:
    (row,) = outcome_rows(10, {}, {"<new>": 10})
    assert row["outcome"] == "<new>" and row["meaning"].startswith("The listing refused")


def test_an_empty_source_has_a_page(store: Store) -> None:
    listing = list_rows(store, [[Row("http://x/1")]])
    page = render(source="own", listing=listing, found=merge([]), provenance={}).decode()
    assert "0 of 1 listed rows fetched" in page
    assert "– of the rows that were asked for" in markdown("own", 0, merge([]))
