"""The paper's long runs as the simulator takes them: rows, steps and GPUs of arXiv:2312.14238, and our figures."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipelines.budget import SAMPLE_BYTES
from stages.download_price import Pace
from stages.quantities import duration
from stages.simulation import Cluster, Pool, Training, best_interval, daly, ends, expected, pool, quantiles, train

ROWS = 6_030_000_000
"""Of all lists together (table 2)."""
MILLISECONDS = 50.0
"""Ours: what one task takes for a row that it downloads, most of it waiting for the web."""
ROWS_PER_PART = 10_000
FACTORS = (0.125, 0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0, 8.0)
"""Intervals that are tried, as multiples of Daly's."""
MACHINES = (1, 2, 4, 8, 16, 32, 64, 128)
HOURS = (1_000.0, 2_500.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0)
"""Mean times between failures of a machine that a curve runs through."""


@dataclass(frozen=True)
class Timed:
    """A training, and what one of its steps takes."""

    name: str
    steps: int
    gpus: int
    card: str
    step_seconds: float
    source: str
    """How that is known."""


class RowTime(NamedTuple):
    """What a task takes for a row, and how that is known."""

    seconds: float
    source: str


def row_time(milliseconds: float | None, pace: Pace | None) -> RowTime:
    """Return what is given, what was measured, or what we assume; in this order."""
    if milliseconds is not None:
        return RowTime(milliseconds / 1000, "given")
    if pace is not None and pace.work_seconds is not None:
        return RowTime(pace.work_seconds / pace.urls, f"measured on {pace.urls:,} urls")
    return RowTime(MILLISECONDS / 1000, "assumed")


@dataclass(frozen=True)
class Given:
    """All that the simulator is told."""

    machine: Cluster
    """One machine; how many there are is each run's."""
    cpu_machines: int
    tasks: int
    gpus_per_machine: int
    checkpoint_seconds: float
    dollars_per_gpu_hour: float
    dollars_per_cpu_machine_hour: float
    seeds: int
    row: RowTime
    trainings: tuple[Timed, ...]
    store_bytes_per_second: float = math.inf
    """What the way to the store lets through, for all CPU machines together."""


@dataclass(frozen=True)
class Run:
    """What one long run came to, in seconds and dollars."""

    name: str
    where: str
    calm: float
    """Without failures and states."""
    low: float
    median: float
    high: float
    dollars: float
    """At the median."""
    interval: float | None = None
    """Seconds of work between states: Daly's."""
    searched: float | None = None
    """The best interval of those simulated."""

    def cells(self) -> list[str]:
        """Return it as people read it."""
        days = [f"{each / 86400:,.1f}" for each in (self.calm, self.low, self.median, self.high)]
        states = [duration(each) if each else "–" for each in (self.interval, self.searched)]
        return [*days, f"{self.dollars:,.0f}", *states]


@dataclass(frozen=True)
class Curve:
    """A line of medians with the 5th and 95th percentile around it."""

    title: str
    across: str
    up: str
    points: tuple[tuple[float, float, float, float], ...]
    """Place, 5th percentile, median, 95th percentile."""
    mark: float | None = None
    """A place worth a line of its own."""
    marked: str = ""
    formula: tuple[tuple[float, float], ...] = ()
    """What a formula says of the same places."""


@dataclass(frozen=True)
class Simulated:
    """What the page shows."""

    runs: tuple[Run, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


def simulated(given: Given) -> Simulated:
    """Return runs and curves of the data and of both trainings."""
    runs, curves = list[Run](), list[Curve]()
    data = _data(given, given.cpu_machines)
    calm = max(
        ROWS * given.row.seconds / (given.tasks * given.cpu_machines),
        ROWS * SAMPLE_BYTES / given.store_bytes_per_second,
    )
    hourly = given.dollars_per_cpu_machine_hour * given.cpu_machines
    where = f"{given.cpu_machines} machines of {given.tasks} tasks"
    runs.append(Run("download", where, calm, *data, data[1] / 3600 * hourly))
    points = tuple((float(count), *_lost(_data(given, count), 0.0)) for count in MACHINES)
    curves.append(Curve(f"download of {ROWS:,} rows", "machines", "days", points))
    for each in given.trainings:
        run, own = _training(given, each)
        runs.append(run)
        curves += own
    return Simulated(tuple(runs), tuple(curves), _notes(given))


def _data(given: Given, machines: int) -> tuple[float, float, float]:
    rows = Pool(
        ROWS,
        ROWS_PER_PART,
        given.row.seconds,
        given.tasks,
        bytes_per_row=SAMPLE_BYTES,
        bytes_per_second=given.store_bytes_per_second,
    )
    return quantiles(pool(rows, replace(given.machine, machines=machines), given.seeds))


def _days(seconds: float) -> float:
    return seconds / 86400


def _lost(three: tuple[float, float, float], work: float) -> tuple[float, float, float]:
    """Return the days that quantiles of a run's seconds lie above its work."""
    low, median, high = (_days(each - work) for each in three)
    return low, median, high


def _training(given: Given, timed: Timed) -> tuple[Run, list[Curve]]:
    run = Training(timed.steps, timed.step_seconds, given.checkpoint_seconds)
    cluster = replace(given.machine, machines=-(-timed.gpus // given.gpus_per_machine))
    work, state = run.work(cluster), run.checkpoint_seconds
    right = daly(state, cluster.between_failures)
    tried = [right * factor for factor in FACTORS]
    # An interval far too long for the machines would never end; Daly's own is refused in `train`.
    tried = [each for each in tried if each == right or ends(work, each, state, cluster)]
    spread = {each: quantiles(train(work, each, state, cluster, given.seeds)) for each in tried}
    low, median, high = spread[right]
    found = Run(
        timed.name,
        f"{timed.gpus} {timed.card} in {cluster.machines} machines",
        work,
        low,
        median,
        high,
        median / 3600 * timed.gpus * given.dollars_per_gpu_hour,
        right,
        best_interval(work, state, cluster, tried, given.seeds),
    )
    by_interval = Curve(
        f"{timed.name}: lost to failures and states, by interval between states",
        "minutes of work between states",
        "days",
        tuple((each / 60, *_lost(three, work)) for each, three in spread.items()),
        mark=right / 60,
        marked="Daly",
        formula=tuple((each / 60, _days(expected(work, each, state, cluster) - work)) for each in tried),
    )
    return found, [by_interval, _by_failures(given, timed.name, run, cluster)]


def _by_failures(given: Given, name: str, run: Training, cluster: Cluster) -> Curve:
    points, state = list[tuple[float, float, float, float]](), run.checkpoint_seconds
    for hours in HOURS:
        frail = replace(cluster, mtbf_hours=hours)
        work, interval = run.work(frail), daly(state, frail.between_failures)
        if ends(work, interval, state, frail):
            points.append((hours, *_lost(quantiles(train(work, interval, state, frail, given.seeds)), work)))
    title = f"{name}: lost, by how often machines fail, states at Daly's interval"
    return Curve(
        title, "hours between failures of one machine", "days", tuple(points), given.machine.mtbf_hours, "given"
    )


def _notes(given: Given) -> tuple[str, ...]:
    machine, limit = given.machine, given.store_bytes_per_second
    way = "" if math.isinf(limit) else f"; the store takes {limit / 1e9:g} GB/s, {SAMPLE_BYTES // 1000} kB a row"
    return (
        f"Downloading a row takes a task {1000 * given.row.seconds:,.1f} ms ({given.row.source}){way}. Scoring, "
        "filtering and writing shards are not in it: internvl plan paper reckons their hours.",
        *(
            f"A step of the {each.name} stage takes {each.step_seconds:.3g} s: {each.source}."
            for each in given.trainings
        ),
        f"A machine, with GPUs or without, fails every {machine.mtbf_hours:,g} hours on the mean and is back after "
        f"{duration(machine.restart_seconds)}; a state takes {given.checkpoint_seconds:g} s; speeds differ "
        f"by a spread of {machine.straggler_sigma:g}, and a step waits for the slowest.",
        f"States are written at Daly's interval; best of search is the best of up to {len(FACTORS)} intervals "
        "from an eighth to eight times it, all in the same failures.",
        f"Shown are the 5th, 50th and 95th percentile of {given.seeds} runs. Nothing of it was run at this size.",
    )
