"""Which sample stands where: permutations, mixtures and windows of shards, all from (seed, step) alone."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stages.manifest import ManifestError
from stages.training.loading import order_of
from stages.training.order import CYCLE, Order, Source, Weight, check_weights
from stages.training.schedule import Schedule

SHARDS = (5, 7, 3, 9, 6)
SAMPLES = sum(SHARDS)
MIXTURE = (Source("web", (40, 60), 3.0), Source("books", (7,), 1.0, 100), Source("news", (900,), 4.0, 107))


def test_one_source_keeps_the_order_that_runs_always_had() -> None:
    order = Order(3, [Source("samples", SHARDS)])
    rows = [row for step in range(15) for row in order.rows(step, 8)]
    epochs = [rows[start : start + SAMPLES] for start in range(0, 4 * SAMPLES, SAMPLES)]
    assert all(sorted(epoch) == list(range(SAMPLES)) for epoch in epochs), "each sample once, then all again"
    assert len({tuple(epoch) for epoch in epochs}) == 4, "each epoch in an order of its own"
    assert Order(4, [Source("samples", SHARDS)]).rows(7, 8) != order.rows(7, 8)
    assert len(Order(0, [Source("samples", (3,))]).rows(0, 8)) == 8, "a batch may be larger than the data"
    assert order.rows(0, 8) == [11, 0, 2, 25, 22, 17, 5, 14], "as it was before mixtures came"


def test_a_window_shuffles_shards_and_then_the_samples_of_a_few() -> None:
    order = Order(3, [Source("samples", SHARDS)], window=2)
    shard_of = np.repeat(np.arange(len(SHARDS)), SHARDS)
    rows = [order.row(place) for place in range(3 * SAMPLES)]
    epochs = [rows[start : start + SAMPLES] for start in range(0, 3 * SAMPLES, SAMPLES)]
    assert all(sorted(epoch) == list(range(SAMPLES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        shards = [int(shard_of[row]) for row in epoch]
        last_seen = {shard: place for place, shard in enumerate(shards)}
        for place in range(SAMPLES):
            open_now = {shard for shard in shards[: place + 1] if last_seen[shard] > place}
            assert len(open_now) <= 2, "samples of more than two shards are open at once"
        assert any(one > other for one, other in pairwise(epoch)), "samples of a window are shuffled"
    assert rows[44] == Order(3, [Source("samples", SHARDS)], window=2).row(44), "any place, asked for first"


def test_a_window_as_wide_as_the_data_is_the_plain_order() -> None:
    plain, wide = (Order(3, [Source("samples", SHARDS)], window) for window in (0, len(SHARDS)))
    assert [wide.row(place) for place in range(40)] == [plain.row(place) for place in range(40)]


@pytest.mark.parametrize("window", [0, 1])
def test_each_source_of_a_mixture_goes_through_epochs_of_its_own(window: int) -> None:
    order = Order(1, MIXTURE, window)
    rows = [order.row(place) for place in range(4 * CYCLE)]
    for source in MIXTURE:
        own = [row - source.first for row in rows if source.first <= row < source.first + source.samples]
        whole = len(own) // source.samples
        assert whole >= 1
        for epoch in range(whole):
            part = own[epoch * source.samples : (epoch + 1) * source.samples]
            assert sorted(part) == list(range(source.samples)), (source.name, epoch)
        rest = own[whole * source.samples :]
        assert len(set(rest)) == len(rest)


def test_a_mixture_keeps_its_ratio_and_draws_its_turns_evenly() -> None:
    order, cycles = Order(1, MIXTURE), 12
    turns = np.array([order.turn(place)[0] for place in range(cycles * CYCLE)])
    shares = np.array([source.weight for source in MIXTURE]) / 8
    for cycle in turns.reshape(cycles, CYCLE):
        assert np.bincount(cycle).tolist() == (shares * CYCLE).tolist()
    # Chi-square of the sources in batches of 32 against independent draws: too large is a wrong ratio,
    # too small would be turns that are dealt out and not drawn. 99.9 % of draws lie in between.
    batches = turns.reshape(-1, 32)
    counts = np.stack([(batches == source).sum(axis=1) for source in range(3)], axis=1)
    statistic = float(((counts - 32 * shares) ** 2 / (32 * shares)).sum())
    freedom = 2 * len(batches)
    assert abs(statistic - freedom) < 3.3 * np.sqrt(2 * freedom)
    regular = np.tile(np.repeat([0, 1, 2], [12, 4, 16]), len(batches)).reshape(-1, 32)
    dealt = np.stack([(regular == source).sum(axis=1) for source in range(3)], axis=1)
    assert abs(float(((dealt - 32 * shares) ** 2 / (32 * shares)).sum()) - freedom) > 3.3 * np.sqrt(2 * freedom)


def test_a_run_that_goes_on_reads_what_it_would_have_read() -> None:
    whole = [Order(5, MIXTURE, 1).rows(step, 24) for step in range(60)]
    resumed = Order.read(Order(5, MIXTURE, 1).described())
    assert [resumed.rows(step, 24) for step in range(43, 60)] == whole[43:]
    assert Order(6, MIXTURE, 1).rows(0, 24) != whole[0]


def test_weights_and_repeats() -> None:
    assert Weight(name="a", repeat=0.5).of(200) == 100 and Weight(name="a", weight=3).of(200) == 3
    assert Weight(name="a", square_root=1).of(400) == 20 and Weight(name="a", square_root=4).of(400) == 40
    for wrong in ({}, {"weight": 1, "repeat": 1}, {"square_root": 1, "repeat": 1}):
        with pytest.raises(ValidationError, match="either a weight, a repeat or a square_root"):
            Weight.model_validate({"name": "a", **wrong})
    with pytest.raises(ManifestError, match=r"names a, c and the inputs are a, b; name each once"):
        check_weights([Weight(name="a", weight=1), Weight(name="c", weight=1)], ["a", "b"])
    for other, told in (
        (Weight(name="b", repeat=1), "repeat and weight"),
        (Weight(name="b", square_root=1), "square_r"),
    ):
        with pytest.raises(ManifestError, match=f"gives {told}.*; give all the same one"):
            check_weights([Weight(name="a", weight=1), other], ["a", "b"])


def test_orders_of_nothing_and_shares_too_small_are_refused() -> None:
    with pytest.raises(ManifestError, match="nothing to train on"):
        Order(0, [])
    with pytest.raises(ManifestError, match="news holds no sample"):
        Order(0, [Source("web", (3,)), Source("news", ())])
    with pytest.raises(ManifestError, match="news would get less than one of 1024 places"):
        Order(0, [Source("web", (3,), 1e6), Source("news", (3,), 1.0, 3)])


def test_a_window_needs_shards() -> None:
    gang: Any = SimpleNamespace(
        job=SimpleNamespace(schedule=Schedule(global_batch_size=4, steps=2, learning_rate=0.1, shuffle_window=2))
    )
    bare: Any = SimpleNamespace(samples=30)
    with pytest.raises(ManifestError, match="shuffle_window 2 needs samples that lie in shards"):
        order_of(gang, bare)
    lying: Any = SimpleNamespace(samples=[Source("samples", (12, 18, 4))])
    assert order_of(gang, lying).described() == Order(0, lying.samples, window=2).described()
