"""A mean over few seeds and how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom."""
_Z = 1.959964


def student_t(freedom: int) -> float:
    """Return Student's t at 97.5 %; from 10 degrees of freedom on by Cornish and Fisher's expansion, to 0.1 %."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    first = (_Z**3 + _Z) / (4 * freedom)
    return _Z + first + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval, which one value alone does not have."""

    value: float
    low: float | None
    high: float | None


def mean(values: Sequence[float]) -> Mean:
    """Return the mean over independent runs with Student's interval."""
    middle = fmean(values)
    if len(values) < 2:
        return Mean(middle, None, None)
    spread = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Mean(middle, middle - spread, middle + spread)
