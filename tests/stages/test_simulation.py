"""Long runs on paper, against what can be computed by hand and against Young's, Daly's and a queue's own counts."""

import heapq
import math

import numpy as np
import pytest

from stages.simulation import (
    Cluster,
    Pool,
    Training,
    best_interval,
    daly,
    ends,
    expected,
    pool,
    quantiles,
    slowest,
    train,
    young,
)

NEVER = Cluster(machines=1, mtbf_hours=1e12)


def test_without_failures_a_run_takes_its_work_and_its_states() -> None:
    # 1,000 seconds in stretches of 300: states after the first three, none behind the last.
    assert train(1000, 300, 7, NEVER, seeds=3).tolist() == [1021.0] * 3
    assert train(900, 300, 7, NEVER, seeds=1).tolist() == [914.0]
    assert Training(steps=10, step_seconds=2.0, checkpoint_seconds=1).work(NEVER) == 20


def test_intervals_by_hand() -> None:
    assert young(50, 10_000) == 1000
    share = 50 / 20_000
    assert daly(50, 10_000) == pytest.approx(1000 * (1 + math.sqrt(share) / 3 + share / 9) - 50)
    assert daly(50, 20) == 20, "where a state takes longer than two failures are apart"


@pytest.mark.parametrize("interval", [300.0, 1500.0, 5000.0])
def test_the_simulated_mean_is_dalys(interval: float) -> None:
    cluster = Cluster(machines=80, mtbf_hours=80 * 4.0, restart_seconds=600)
    work = 2e6
    found = train(work, interval, 60, cluster, seeds=300, seed=1)
    # One state less than the formula has: the end needs none.
    assert found.mean() == pytest.approx(expected(work, interval, 60, cluster), rel=0.01)
    assert found.min() > work and found.std() > 0


def test_the_best_simulated_interval_is_dalys() -> None:
    cluster = Cluster(machines=80, mtbf_hours=80 * 2.0, restart_seconds=300)
    right = daly(120, cluster.between_failures)
    tried = [right * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert best_interval(3e6, 120, cluster, tried, seeds=60) == right


def test_a_lost_stretch_is_done_again_and_never_counted_twice() -> None:
    cluster = Cluster(machines=1, mtbf_hours=0.5, restart_seconds=0)
    took = train(3600, 3600, 0, cluster, seeds=4000, seed=3)
    # One stretch that must run through: the mean is M (e^(W/M) - 1).
    assert took.mean() == pytest.approx(1800 * math.expm1(2.0), rel=0.05)


def test_the_slowest_of_many_machines_holds_up_a_step() -> None:
    assert slowest(Cluster(10, 100.0)) == 1.0
    few, many = (slowest(Cluster(n, 100.0, straggler_sigma=0.05)) for n in (1, 80))
    assert few == pytest.approx(math.exp(0.05**2 / 2), abs=0.005)
    assert many == pytest.approx(math.exp(0.05 * 2.427), rel=0.01), "the largest of 80 normals is 2.427 on the mean"


def test_a_pool_takes_as_long_as_a_queue_of_its_parts() -> None:
    given = Pool(rows=400_000, rows_per_part=100, seconds_per_row=0.05, tasks_per_machine=16, spread=0.6)
    cluster = Cluster(machines=4, mtbf_hours=1e12)
    random, mean = np.random.default_rng(5), 5.0
    counted = []
    for _ in range(20):
        free = [0.0] * 64
        for part in mean * np.exp(random.normal(-0.18, 0.6, 4000)):
            heapq.heapreplace(free, free[0] + part)
        counted.append(max(free))
    assert pool(given, cluster, seeds=200).mean() == pytest.approx(np.mean(counted), rel=0.02)


def test_what_failures_cost_a_pool() -> None:
    given = Pool(rows=1_000_000, rows_per_part=1000, seconds_per_row=0.1, tasks_per_machine=10, spread=0.0)
    calm, rough = (pool(given, Cluster(10, mtbf, restart_seconds=600), seeds=2000).mean() for mtbf in (1e12, 10.0))
    # 1,000 s hold 0.28 failures; each costs a tenth of the tasks 600 s and half of a part of 100 s.
    assert rough - calm == pytest.approx(1000 / 3600 * 650 / 10, rel=0.2)


def test_a_part_of_its_own_takes_as_long_as_it_takes() -> None:
    given = Pool(rows=1000, rows_per_part=10_000, seconds_per_row=0.05, tasks_per_machine=256, spread=0.0)
    assert pool(given, NEVER, seeds=2).tolist() == [50.0, 50.0], "255 other tasks cannot help with one part"
    given = Pool(rows=25_000, rows_per_part=10_000, seconds_per_row=0.05, tasks_per_machine=1, spread=0.0)
    calm = Cluster(machines=3, mtbf_hours=1e12)
    assert pool(given, calm, seeds=1).tolist() == [500.0], "the last part is short, the longest decides"
    rough = Cluster(machines=3, mtbf_hours=0.5, restart_seconds=100)
    assert pool(given, rough, seeds=400).mean() > 520, "lost machines hold up what they were doing"


def test_what_would_never_end_is_refused() -> None:
    frail = Cluster(machines=80, mtbf_hours=1.0, restart_seconds=600)
    interval = daly(60, frail.between_failures)
    assert not ends(2e6, interval, 60, frail) and expected(2e6, 1e9, 60, frail) == math.inf
    with pytest.raises(ValueError, match="hardly ever end: of 80 machines one fails every 45 s"):
        train(2e6, interval, 60, frail, seeds=5)
    with pytest.raises(ValueError, match="would hardly ever end"):
        train(2e6, 3600, 60, Cluster(80, 6300.0, restart_seconds=1e9), seeds=5)
    with pytest.raises(ValueError, match="hardly any part would be done"):
        pool(Pool(100_000, 10_000, 1.0, 16), Cluster(4, 1.0), seeds=2)


def test_the_way_to_the_store_may_decide() -> None:
    given = Pool(1000, 10, 0.001, 8, bytes_per_row=1e6, bytes_per_second=1e6)
    assert pool(given, NEVER, seeds=2).tolist() == [1000.0, 1000.0]


def test_quantiles_and_what_cannot_be() -> None:
    assert quantiles(np.arange(101.0)) == (5.0, 50.0, 95.0)
    for wrong in ({"machines": 0}, {"mtbf_hours": 0.0}):
        with pytest.raises(ValueError, match="give at least one machine"):
            Cluster(**{"machines": 1, "mtbf_hours": 1.0, **wrong})
    with pytest.raises(ValueError, match="below 0"):
        Cluster(1, 1.0, restart_seconds=-1)
    with pytest.raises(ValueError, match="interval above 0"):
        train(1, 0, 1, NEVER, 1)
