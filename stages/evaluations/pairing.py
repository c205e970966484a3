"""Paired differences of two models on the same examples: bootstrap intervals, and p by exchanging the models."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.batches import generator_of
from stages.evaluation_metrics import Bools, Floats, grouped, mean_ratios, resampled_means, spread

FLIPS = 10_000
EXACT = 13
"""So many differing examples have all their 2^n signs tried; more have signs drawn."""
ROUNDING = 1e-12
"""Sums in another order differ in their last bits."""


def paired_interval(
    differences: npt.ArrayLike, groups: Sequence[str] | None = None, most: float = 1.0
) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean difference.

    Where all examples differ alike, or none at all, `spread` says what may hide behind that.

    Args:
        differences: One per example.
        groups: Of which group each example is; they are drawn whole (questions about one picture).
        most: By how much one example can differ.
    """
    array = np.asarray(differences, dtype=np.float64)
    independent = len(set(groups or range(len(array))))
    return spread(resampled_means(array, groups), float(array.mean()), independent, -most, most)


def sign_flips(differences: npt.ArrayLike, groups: Sequence[str] | None = None) -> float:
    """Return the two-sided p of a mean difference under random signs (Fisher's randomisation test).

    All signs are tried where that is cheap; else they are drawn, the observed ones counting as one draw. All
    differences of a group get the same sign.
    """
    array = np.asarray(differences, dtype=np.float64)
    if groups is not None:
        array = grouped(array, groups)
    array = array[array != 0]
    if not len(array):
        return 1.0
    seen = abs(array.sum()) * (1 - ROUNDING)
    return _share_as_far(array, lambda sums: np.asarray(np.abs(sums) >= seen))


class Ratios(NamedTuple):
    """A measure that is the mean over columns of sum(parts) / sum(wholes) over examples, as mIoU is over classes."""

    parts: Floats
    """Shape (examples, columns)."""
    wholes: Floats
    """Same shape; a column whose sum is 0 does not count."""

    @property
    def value(self) -> float:
        """Return the measure."""
        return float(mean_ratios(self.parts.sum(axis=0, keepdims=True), self.wholes.sum(axis=0, keepdims=True))[0])

    @property
    def table(self) -> Floats:
        """Return parts beside wholes, shape (examples, 2 * columns)."""
        return np.hstack([self.parts, self.wholes])


def _values(tables: Floats) -> Floats:
    """Return the measure of each row of sums as `Ratios.table` lays them out."""
    parts, wholes = np.split(tables, 2, axis=1)
    return mean_ratios(parts, wholes)


def ratio_interval(before: Ratios, after: Ratios, groups: Sequence[str] | None = None) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a difference of ratios: both are taken on the same drawn examples.

    Args:
        before: The first model's.
        after: The second's, of the same examples.
        groups: Of which group each example is; they are drawn whole.
    """
    # How often each example is drawn depends on their number alone, so both see the same resamples.
    drawn = _values(resampled_means(after.table, groups)) - _values(resampled_means(before.table, groups))
    independent = len(set(groups or range(len(before.parts))))
    return spread(drawn[~np.isnan(drawn)], after.value - before.value, independent, -1.0, 1.0)


def ratio_exchanges(before: Ratios, after: Ratios, groups: Sequence[str] | None = None) -> float:
    """Return the two-sided p of a difference of ratios when the models change places on random examples.

    Under the hypothesis that both are alike it does not matter which of them said what; `sign_flips` is the same
    for means.
    """
    one, other = before.table, after.table
    if groups is not None:
        one, other = grouped(one, groups), grouped(other, groups)
    middle, half = (one + other).sum(axis=0) / 2, (other - one) / 2
    half = half[(half != 0).any(axis=1)]
    if not len(half):
        return 1.0
    seen = abs(after.value - before.value) * (1 - ROUNDING)

    def as_far(sums: Floats) -> Bools:
        apart = np.abs(_values(middle + sums) - _values(middle - sums))
        # What an exchange leaves without any whole says nothing, so it speaks for no difference.
        return np.asarray(np.isnan(apart) | (apart >= seen))

    return _share_as_far(half, as_far)


def _share_as_far(differing: Floats, as_far: Callable[[Floats], Bools]) -> float:
    """Return how often random signs give a sum that is as far out as the one that was seen.

    Args:
        differing: What examples differ by, shape (examples, ...).
        as_far: From sums under signs, shape (draws, ...), to whether each is as far out.
    """
    n = len(differing)
    if n <= EXACT:
        return float(as_far(np.array(list(product((1.0, -1.0), repeat=n))) @ differing).mean())
    hits = sum(int(as_far(signs @ differing).sum()) for signs in _signs(n))
    return (1 + hits) / (1 + FLIPS)


def _signs(n: int) -> Iterator[Floats]:
    """Yield `FLIPS` rows of n random signs, in blocks of at most some ten million."""
    generator, done = generator_of("sign flips", n), 0
    while done < FLIPS:
        rows = min(FLIPS - done, max(1, 10_000_000 // n))
        yield np.asarray(generator.integers(0, 2, (rows, n)) * 2.0 - 1, dtype=np.float64)
        done += rows
