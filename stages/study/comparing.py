"""Which variants a study tells apart: paired over seeds, and corrected for comparing all of them with all.

All variants of a seed read the same samples in the same order, so what a seed makes better or worse for all is taken
out first. What is left is pooled: three seeds of one variant say little of its spread, those of eight say enough.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from scipy.stats import studentized_range  # type: ignore[import-untyped]

CONFIDENCE = 0.95

METHOD = (
    "Two variants count as told apart where their means differ by more than Tukey's honestly significant difference: "
    "a variance analysis with seeds as blocks (what a seed does to all variants is taken out), one spread pooled "
    "over all variants, and one chance in twenty of any false difference among all pairs together."
)


@dataclass(frozen=True)
class Comparison:
    """What is within noise between variants, all pairs together."""

    means: Mapping[str, float]
    spread: float | None
    """Standard deviation of one training about its variant's and its seed's mean; None where nothing repeats."""
    freedom: int
    threshold: float | None
    """Difference of two means that noise alone reaches once in twenty studies; None where nothing repeats."""

    def differ(self, one: str, other: str) -> bool:
        """Say whether two variants differ by more than noise; without a threshold none do."""
        return self.threshold is not None and abs(self.means[one] - self.means[other]) > self.threshold


def compare(values: Mapping[str, Sequence[float]]) -> Comparison:
    """Return what a study of several seeds tells apart.

    Randomised complete blocks: value = mean + variant + seed + noise, noise of one size for all variants; then
    Tukey's test at `CONFIDENCE`.

    Args:
        values: By variant, one value for each seed, all in the same order of seeds.

    Raises:
        ValueError: There are fewer than two variants, or they have other numbers of seeds.
    """
    if len(values) < 2 or len({len(each) for each in values.values()}) != 1:
        raise ValueError("at least two variants with as many seeds each can be compared")
    means = {name: fmean(each) for name, each in values.items()}
    seeds = len(next(iter(values.values())))
    freedom = (len(values) - 1) * (seeds - 1)
    if not freedom:
        return Comparison(means, None, 0, None)
    whole = fmean(means.values())
    of_seed = [fmean(each) - whole for each in zip(*values.values(), strict=True)]
    left = [
        value - means[name] - shift
        for name, each in values.items()
        for value, shift in zip(each, of_seed, strict=True)
    ]
    spread = math.sqrt(math.fsum(each**2 for each in left) / freedom)
    return Comparison(means, spread, freedom, _reach(len(values), freedom) * spread / math.sqrt(seeds))


@lru_cache
def _reach(variants: int, freedom: int) -> float:
    """Return the studentised range that noise reaches once in twenty studies; half a second to compute."""
    return float(studentized_range.ppf(CONFIDENCE, variants, freedom))
