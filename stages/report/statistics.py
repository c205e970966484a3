"""Intervals for counts: Wilson's for shares, and one for the ratio of two shares."""

import math

Z = 1.959963984540054


def wilson(hits: int, rows: int, z: float = Z) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), in [0, 1]; all of it where there are no rows."""
    if rows <= 0:
        return 0.0, 1.0
    found = hits / rows
    spread = z * math.sqrt(found * (1 - found) / rows + z * z / (4 * rows * rows))
    middle, scale = found + z * z / (2 * rows), 1 + z * z / rows
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def ratio_interval(hits: int, rows: int, all_hits: int, all_rows: int, z: float = Z) -> tuple[float, float]:
    """Return the 95 % interval of (hits / rows) / (all_hits / all_rows), on the log scale (Katz et al. 1978).

    The first is a part of the second, as a language is of its source; taking them for independent
    makes the interval wider, never narrower, so an alarm is not raised too early.
    """
    if not (hits and rows and all_hits and all_rows):
        return 0.0, math.inf
    ratio = (hits / rows) / (all_hits / all_rows)
    variance = max(1 / hits - 1 / rows + 1 / all_hits - 1 / all_rows, 0.0)
    spread = math.exp(z * math.sqrt(variance))
    return ratio / spread, ratio * spread
