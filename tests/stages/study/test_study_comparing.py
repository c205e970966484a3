"""Which variants are told apart, against a computed example and by trial."""

import numpy as np
import pytest

from stages.study.comparing import compare


def test_threshold_is_tukeys() -> None:
    values = {"a": [0.50, 0.51, 0.52], "b": [0.49, 0.50, 0.515], "c": [0.30, 0.31, 0.32]}
    found = compare(values)
    # Residuals of the two-way table: sum of squares 4 * s^2; the range of 3 means at 4 degrees of freedom is 5.040.
    table = np.array(list(values.values()))
    left = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    spread = (np.square(left).sum() / 4) ** 0.5
    assert found.freedom == 4 and found.spread == pytest.approx(spread)
    assert found.threshold == pytest.approx(5.040 * spread / 3**0.5, rel=1e-3)
    assert found.differ("a", "b") and found.differ("c", "a")


def test_what_a_seed_does_to_all_is_no_noise() -> None:
    calm = {"a": [0.50, 0.51, 0.52], "b": [0.40, 0.41, 0.43], "c": [0.30, 0.31, 0.31]}
    shifted = {name: [value + 0.1 * seed for seed, value in enumerate(each)] for name, each in calm.items()}
    assert compare(calm).threshold == pytest.approx(compare(shifted).threshold)


def test_with_one_seed_nothing_is_told_apart() -> None:
    found = compare({"a": [0.9], "b": [0.1]})
    assert found.threshold is None and found.spread is None and not found.differ("a", "b")


def test_unequal_seeds_and_single_variants_are_refused() -> None:
    for values in ({"a": [1.0, 2.0]}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(ValueError, match="at least two variants"):
            compare(values)


def test_equal_variants_are_told_apart_once_in_twenty_studies_and_unequal_ones_nearly_always() -> None:
    draw = np.random.default_rng(0)
    wrong = right = 0
    for _ in range(400):
        noise = draw.normal(0.5, 0.02, (8, 3)) + draw.normal(0, 0.05, 3)
        equal = compare({str(number): row.tolist() for number, row in enumerate(noise)})
        wrong += max(equal.means.values()) - min(equal.means.values()) > (equal.threshold or 0)
        noise[0] += 0.1
        right += compare({str(number): row.tolist() for number, row in enumerate(noise)}).differ("0", "1")
    assert 5 <= wrong <= 40, "about twenty of 400"
    assert right > 300
