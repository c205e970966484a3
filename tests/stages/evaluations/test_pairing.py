"""Intervals and p of paired differences: by hand, by brute force, and how often they hold where nothing differs."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from stages.evaluation_metrics import Floats
from stages.evaluations.pairing import Ratios, paired_interval, ratio_exchanges, ratio_interval, sign_flips


def ratios(rng: np.random.Generator, n: int, low: float, high: float) -> Ratios:
    """Return what one model says of n pictures, in three classes."""
    wholes = rng.integers(1, 50, (n, 3)).astype(float)
    return Ratios(wholes * rng.uniform(low, high, (n, 3)), wholes)


def mean_ratio(parts: Floats, wholes: Floats) -> float:
    """Return the measure the slow way."""
    return float(np.mean(parts.sum(axis=0) / wholes.sum(axis=0)))


@pytest.mark.parametrize("by", [1.0, 0.3, -0.3])
def test_examples_that_all_differ_alike_are_not_certain(by: float) -> None:
    low, high = paired_interval([by] * 4)
    alike = 0.025 ** (1 / 4)
    assert (low, high) == pytest.approx((alike * by - (1 - alike), alike * by + (1 - alike)))
    assert low < 0 < high  # four examples decide nothing
    assert paired_interval([by] * 1000)[0] == pytest.approx(by, abs=0.01)
    assert paired_interval([5.0] * 4, most=10.0)[1] > 5


def test_signs_are_tried_all_or_drawn_alike() -> None:
    rng = np.random.default_rng(3)
    few = rng.normal(0.4, 1, 12)
    every = [abs(float(np.dot(signs, few))) >= abs(few.sum()) - 1e-9 for signs in product((1, -1), repeat=12)]
    assert sign_flips(few) == pytest.approx(np.mean(every))
    assert sign_flips(np.concatenate([few, np.zeros(50)])) == sign_flips(few)
    many = rng.normal(0.2, 1, 200)
    normal = abs(many.sum()) / np.sqrt((many**2).sum())  # the flips' sum is nearly normal
    assert sign_flips(many) == pytest.approx(2 * norm.sf(normal), abs=0.015)
    assert sign_flips(many) == sign_flips(many)


def test_a_true_difference_of_nothing_is_inside_about_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    held, small = [], []
    for _ in range(200):
        differences = rng.integers(0, 2, 80) - rng.integers(0, 2, 80)
        low, high = paired_interval(differences)
        held.append(low <= 0 <= high)
        small.append(sign_flips(differences) <= 0.05)
    assert 0.90 <= np.mean(held) <= 0.99 and 0.01 <= np.mean(small) <= 0.1


def test_ratios_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    before, after = ratios(rng, 40, 0.2, 0.6), ratios(rng, 40, 0.3, 0.7)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 40, 40)
        values = [mean_ratio(each.parts[rows], each.wholes[rows]) for each in (before, after)]
        drawn.append(values[1] - values[0])
    low, high = ratio_interval(before, after)
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    # The same picture twice makes nothing surer where pictures are drawn whole.
    twice = [Ratios(np.repeat(each.parts, 2, axis=0), np.repeat(each.wholes, 2, axis=0)) for each in (before, after)]
    names = [str(number // 2) for number in range(80)]
    assert ratio_interval(twice[0], twice[1], names) == pytest.approx((low, high))
    assert ratio_exchanges(twice[0], twice[1], names) == ratio_exchanges(before, after)


def test_models_change_places_in_every_way_or_in_drawn_ones() -> None:
    rng = np.random.default_rng(4)
    before, after = ratios(rng, 8, 0.2, 0.6), ratios(rng, 8, 0.25, 0.7)
    seen = abs(after.value - before.value)
    far = []
    for swap in product((False, True), repeat=8):
        chosen = np.array(swap)[:, None]
        one = [np.where(chosen, b, a) for a, b in ((before.parts, after.parts), (before.wholes, after.wholes))]
        two = [np.where(chosen, a, b) for a, b in ((before.parts, after.parts), (before.wholes, after.wholes))]
        far.append(abs(mean_ratio(*two) - mean_ratio(*one)) >= seen - 1e-9)
    assert ratio_exchanges(before, after) == pytest.approx(np.mean(far))
    assert ratio_exchanges(before, before) == 1


def test_ratios_of_models_that_are_alike_differ_by_chance_alone() -> None:
    rng = np.random.default_rng(6)
    held, small = [], []
    for _ in range(60):
        wholes = rng.integers(20, 50, (40, 2)).astype(float)
        before, after = (Ratios(rng.binomial(wholes.astype(int), 0.5).astype(float), wholes) for _ in range(2))
        low, high = ratio_interval(before, after)
        held.append(low <= 0 <= high)
        small.append(ratio_exchanges(before, after) <= 0.05)
    assert 0.87 <= np.mean(held) <= 1 and np.mean(small) <= 0.12


def test_a_class_that_is_in_few_pictures_does_not_count_where_it_is_not_drawn() -> None:
    parts, wholes = np.zeros((6, 1)), np.zeros((6, 1))
    wholes[0], parts[0] = 10, 4
    before, after = Ratios(parts, wholes), Ratios(parts * 2, wholes)
    low, high = ratio_interval(before, after)
    assert before.value == 0.4 and -1 <= low <= 0.4 <= high <= 1, "resamples without the one picture say nothing"
    assert ratio_exchanges(before, after) == 1, "one picture decides nothing"
