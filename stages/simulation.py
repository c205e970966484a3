"""Long runs on paper: machines fail and lag, states are written, parts are done again; time, by many seeds.

Failures come independently, at exponential intervals, on each machine (Young 1974, doi:10.1145/361147.361115; Daly
2006, doi:10.1016/j.future.2004.11.016); a training loses what it did since its last state, a pool of parts what the
lost machine was doing. Nothing here reads or measures: figures are given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
MOST_TIMES = 100.0
"""A run that takes more than so many times its work is not simulated: it would hardly ever end."""
LARGEST_EXPONENT = 600.0
"""Beyond it e to a power is no number any more."""
STRAGGLER_DRAWS = 2000
"""Steps that are drawn to know how much the slowest machine holds up a step on the mean."""


@dataclass(frozen=True)
class Cluster:
    """Machines that are equal, and how they fail."""

    machines: int
    mtbf_hours: float
    """Mean time between failures of one machine."""
    restart_seconds: float = 600.0
    """From a failure until the run goes on: noticed, replaced, state read."""
    straggler_sigma: float = 0.0
    """Of the logarithm of how long a machine takes, around a median of 1."""

    def __post_init__(self) -> None:
        """Refuse what no cluster can be.

        Raises:
            ValueError: A number is out of its range.
        """
        if self.machines < 1 or self.mtbf_hours <= 0:
            raise ValueError(
                f"a cluster of {self.machines} machines that fail every {self.mtbf_hours:g} hours cannot be; give at "
                "least one machine and a time above 0"
            )
        if self.restart_seconds < 0 or self.straggler_sigma < 0:
            raise ValueError("restart seconds and the spread of stragglers cannot lie below 0")

    @property
    def between_failures(self) -> float:
        """Seconds between two failures of any machine, on the mean."""
        return self.mtbf_hours * 3600 / self.machines


@dataclass(frozen=True)
class Training:
    """Steps that all machines take together."""

    steps: int
    step_seconds: float
    """When no machine lags."""
    checkpoint_seconds: float
    """In which a state is written and nothing else is done."""

    def work(self, cluster: Cluster, seed: int = 0) -> float:
        """Return the seconds of all steps without a failure: each takes as long as its slowest machine."""
        return self.steps * self.step_seconds * slowest(cluster, seed)


def slowest(cluster: Cluster, seed: int = 0) -> float:
    """Return how many times as long as its median a step takes on the mean, that waits for every machine."""
    if not cluster.straggler_sigma:
        return 1.0
    drawn = np.random.default_rng(seed).normal(size=(STRAGGLER_DRAWS, cluster.machines)).max(axis=1)
    return float(np.exp(cluster.straggler_sigma * drawn).mean())


def young(checkpoint_seconds: float, between_failures: float) -> float:
    """Return Young's interval between states in seconds of work: sqrt(2 d M)."""
    return math.sqrt(2 * checkpoint_seconds * between_failures)


def daly(checkpoint_seconds: float, between_failures: float) -> float:
    """Return Daly's interval (2006, equation 37): Young's with two more terms, less the state's own time."""
    if checkpoint_seconds >= 2 * between_failures:
        return between_failures
    share = checkpoint_seconds / (2 * between_failures)
    return young(checkpoint_seconds, between_failures) * (1 + math.sqrt(share) / 3 + share / 9) - checkpoint_seconds


def expected(work: float, interval: float, checkpoint_seconds: float, cluster: Cluster) -> float:
    """Return the seconds that a run takes on the mean (Daly, equation 20): failures may come at any time."""
    mean = cluster.between_failures
    exponent, restart = (interval + checkpoint_seconds) / mean, cluster.restart_seconds / mean
    if exponent + restart > LARGEST_EXPONENT:
        return math.inf
    return mean * math.exp(restart) * math.expm1(exponent) * work / interval


def ends(work: float, interval: float, checkpoint_seconds: float, cluster: Cluster) -> bool:
    """Return whether a run ends in a time that anyone would wait: at most `MOST_TIMES` its work, on the mean."""
    return expected(work, interval, checkpoint_seconds, cluster) <= MOST_TIMES * work


def train(
    work: float, interval: float, checkpoint_seconds: float, cluster: Cluster, seeds: int, seed: int = 0
) -> Seconds:
    """Return how long a run took, once for each seed, shape (seeds,).

    Args:
        work: Seconds of all steps without failures and states.
        interval: Seconds of work between two states.
        checkpoint_seconds: Of one state.
        cluster: What fails.
        seeds: How many runs.
        seed: Of the draws.

    Raises:
        ValueError: The interval is not above 0, or machines fail so often that the run would hardly ever end.
    """
    if interval <= 0:
        raise ValueError(f"states every {interval:g} seconds cannot be; give an interval above 0")
    if not ends(work, interval, checkpoint_seconds, cluster):
        raise ValueError(
            f"a run would hardly ever end: of {cluster.machines:,} machines one fails every "
            f"{cluster.between_failures:,.0f} s, a state takes {checkpoint_seconds:g} s and a restart "
            f"{cluster.restart_seconds:g} s; take machines that last longer, or faster states and restarts"
        )
    random = np.random.default_rng(seed)
    left, took, restarting = np.full(seeds, float(work)), np.zeros(seeds), np.zeros(seeds)
    going = np.arange(seeds)
    while len(going):
        until = random.exponential(cluster.between_failures, len(going))
        free = until - restarting[going]
        # The last stretch ends the run: no state is written behind it.
        stretches = np.ceil(left[going] / interval - 1e-9)
        needed = left[going] + (stretches - 1) * checkpoint_seconds
        done = free >= needed
        took[going] += np.where(done, restarting[going] + needed, until)
        saved = np.floor(np.maximum(free, 0) / (interval + checkpoint_seconds)) * interval
        left[going] -= np.where(done, left[going], np.minimum(saved, (stretches - 1) * interval))
        restarting[going] = cluster.restart_seconds
        going = going[~done]
    return took


def best_interval(
    work: float, checkpoint_seconds: float, cluster: Cluster, tried: Sequence[float], seeds: int, seed: int = 0
) -> float:
    """Return the interval, of those tried, whose runs took the least time on the mean; all meet the same failures."""
    means = [float(train(work, each, checkpoint_seconds, cluster, seeds, seed).mean()) for each in tried]
    return tried[int(np.argmin(means))]


@dataclass(frozen=True)
class Pool:
    """Parts that are done independently, such as those of a download or a filter."""

    rows: int
    rows_per_part: int
    seconds_per_row: float
    """Of one task."""
    tasks_per_machine: int
    spread: float = 0.5
    """Ours: of the logarithm of a part's time; slow hosts make some parts long."""
    bytes_per_row: float = 0.0
    bytes_per_second: float = math.inf
    """What the way to the store lets through, for all machines together."""


def pool(given: Pool, cluster: Cluster, seeds: int, seed: int = 0) -> Seconds:
    """Return how long all parts took, once for each seed, shape (seeds,).

    Tasks take one part after the other. Their sum is drawn as a normal (there are very many), the end as what the
    last part of each task still takes; a failure costs each task of its machine a part begun, and the restart. Where
    every part has a task of its own, the longest of them decides.

    Raises:
        ValueError: A machine does not last as long as a part takes.
    """
    mean, _ = _part_seconds(given)
    if mean >= cluster.mtbf_hours * 3600:
        raise ValueError(
            f"a part of {given.rows_per_part:,} rows takes {mean:,.0f} s and a machine fails every "
            f"{cluster.mtbf_hours * 3600:,.0f} s: hardly any part would be done; take machines that last longer"
        )
    random = np.random.default_rng(seed)
    tasks = given.tasks_per_machine * cluster.machines
    one = _side_by_side if given.rows <= tasks * given.rows_per_part else _in_turn
    least = given.rows * given.bytes_per_row / given.bytes_per_second
    return np.array([max(least, one(given, cluster, random)) for _ in range(seeds)], dtype=np.float64)


def _in_turn(given: Pool, cluster: Cluster, random: np.random.Generator) -> float:
    """Return how long it took where tasks have many parts each."""
    mean, deviation = _part_seconds(given)
    parts, tasks = given.rows / given.rows_per_part, given.tasks_per_machine * cluster.machines
    whole = max(0.0, random.normal(parts * mean, math.sqrt(parts) * deviation))
    lost = random.poisson(whole / tasks / cluster.between_failures)
    again = given.tasks_per_machine * (lost * cluster.restart_seconds + _begun(random, lost, given).sum())
    last = _parts(random, tasks, given) * random.uniform(size=tasks)
    # While the longest of the last parts runs, the others are done: on the mean half of a part each.
    return float((whole + again) / tasks + last.max() - last.mean())


def _side_by_side(given: Pool, cluster: Cluster, random: np.random.Generator) -> float:
    """Return how long it took where every part has a task of its own; the last one may be short."""
    count = -(-given.rows // given.rows_per_part)
    took = _parts(random, count, given)
    took[-1] *= (given.rows - (count - 1) * given.rows_per_part) / given.rows_per_part
    machine = np.arange(count) // given.tasks_per_machine
    lost = random.poisson(took.max() / (cluster.mtbf_hours * 3600) * (machine[-1] + 1))
    for _ in range(lost):
        hit = machine == random.integers(machine[-1] + 1)
        took[hit] += cluster.restart_seconds + took[hit] * random.uniform()
    return float(took.max())


def _part_seconds(given: Pool) -> tuple[float, float]:
    """Return mean and deviation of a part's seconds; `seconds_per_row` is the mean."""
    mean = given.rows_per_part * given.seconds_per_row
    return mean, mean * math.sqrt(math.expm1(given.spread**2))


def _parts(random: np.random.Generator, count: int, given: Pool) -> Seconds:
    mean, _ = _part_seconds(given)
    return mean * np.exp(random.normal(-(given.spread**2) / 2, given.spread, count))


def _begun(random: np.random.Generator, lost: int, given: Pool) -> Seconds:
    """Return how far parts had come that were lost with their machines."""
    return _parts(random, lost, given) * random.uniform(size=lost)


def quantiles(found: Seconds) -> tuple[float, float, float]:
    """Return the 5th, 50th and 95th percentile."""
    low, middle, high = np.percentile(found, (5, 50, 95))
    return float(low), float(middle), float(high)
