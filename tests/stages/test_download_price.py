"""What a whole list costs, from a part of it."""

from pathlib import Path

import pytest
from pool_by_contract import Row, pool_output, publish_part

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.download_price import Pace, Price, Whole, price, wilson
from stages.download_tally import merge, tally
from stages.workspace import Workspace


def priced(store: Store, tmp_path: Path, whole: Whole, pace: Pace | None = None, **given: float) -> Price:
    rows = [Row(f"http://big/{n}") for n in range(60)] + [Row(f"http://small/{n}") for n in range(10)]
    rows += [Row("http://big/0", caption="again"), Row("http://one/1", "not_found")]
    rows += [Row(f"http://out/{n}", "opt_out") for n in range(4)] + [
        Row(f"http://out/r{n}", "robots") for n in range(5)
    ]
    rows += [Row(f"http://late/{n}", "timeout") for n in range(20)]
    output = pool_output(store)
    found = tally([publish_part(output, "0", "d", rows)], output, Workspace(store, InlineCluster(), tmp_path))
    return price("own", whole, found, pace or Pace(), int(given.get("workers", 1)), given.get("host_rate", 0))


def test_counts_and_bytes_are_in_proportion(store: Store, tmp_path: Path) -> None:
    each = priced(store, tmp_path, Whole(listed=120_000, rows=101_000, urls=100_000))
    assert each.sample_urls == 100 and each.fetched == 0.7
    assert each.requests == 95_000, "robots.txt keeps us from asking for 5 of 100"
    assert each.gigabytes_in == pytest.approx(70 * 1000 * 4000 / 1e9)
    assert each.gigabytes_out == pytest.approx(71 * 1000 * 1000 / 1e9), "a url with two captions is stored twice"
    assert each.opted_out == pytest.approx(0.09) and each.may_come_back == pytest.approx(0.2)
    assert each.cpu_hours is each.worker_hours is each.hours is None, "nobody measured"


def test_hours_are_those_of_the_workers_or_of_the_slowest_host(store: Store, tmp_path: Path) -> None:
    whole, pace = Whole(120_000, 101_000, 100_000), Pace(cpu_seconds=2.0, work_seconds=50.0, urls=100)
    alone = priced(store, tmp_path, whole, pace)
    assert alone.cpu_hours == pytest.approx(100_000 * 0.02 / 3600)
    assert alone.hours == alone.worker_hours == pytest.approx(100_000 * 0.5 / 3600)
    four = priced(store, tmp_path, whole, pace, workers=4)
    assert four.worker_hours == pytest.approx(alone.hours / 4) and four.cpu_hours == alone.cpu_hours
    limited = priced(store, tmp_path, whole, pace, workers=4, host_rate=1)
    assert [(t.host, t.urls) for t in limited.tail] == [
        ("big", 60_000),
        ("late", 20_000),
        ("small", 10_000),
        ("out", 4_000),
    ]
    assert limited.tail[0].hours == pytest.approx(60_000 / 3600) == limited.hours
    assert limited.as_json()["tail"][0]["host"] == "big" and four.tail[0].hours is None


def test_one_url_of_a_host_is_no_tail(store: Store, tmp_path: Path) -> None:
    assert "one" not in [each.host for each in priced(store, tmp_path, Whole(1, 1, 1)).tail]


def test_nothing_seen_is_nothing_known() -> None:
    each = price("own", Whole(10, 10, 10), merge([]), Pace(), 1, 1)
    assert (each.fetched_low, each.fetched_high) == (0.0, 1.0) and each.requests == 0 and each.tail == ()


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # The first two are worked examples of R's prop.test(correct = FALSE).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_the_interval_is_wilsons(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == pytest.approx((low, high), abs=1e-4)
