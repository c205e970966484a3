"""The paper's long runs as the simulator takes them: rows, steps and GPUs of arXiv:2312.14238, and our figures."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stages.download_price import Pace
from stages.quantities import duration
from stages.simulation import Cluster, Pool, Training, best_interval, daly, expected, pool, quantiles, train, young

ROWS = 6_030_000_000
"""Of all lists together (table 2)."""
TRAININGS = {"contrastive": (175_000, 640), "generative": (80_000, 160)}
"""Steps and A100 of both large trainings (appendix, training settings)."""
STEP_SECONDS = (13.9, 21.4)
"""Ours: 1.94e23 and 3.42e22 FLOPs at 40 % of an A100's peak, over as many steps; `internvl plan` counts them, and
measured step times take their place with --step-seconds."""
MILLISECONDS = 50.0
"""Ours: what one task takes for a row, download and filter together, most of it waiting for the web."""
ROWS_PER_PART = 10_000
FACTORS = (0.125, 0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0, 8.0)
"""Intervals that are tried, as multiples of Daly's."""
MACHINES = (1, 2, 4, 8, 16, 32, 64, 128)
HOURS = (1_000.0, 2_500.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0)
"""Mean times between failures of a machine that a curve runs through."""


class Figures(NamedTuple):
    """What parts take, and how that is known."""

    seconds_per_row: float
    row_source: str
    step_seconds: tuple[float, ...]
    step_source: str


def figures(milliseconds: float | None, pace: Pace | None, steps: tuple[float, ...] | None) -> Figures:
    """Return what is given, what was measured, or what we assume; in this order."""
    if milliseconds is not None:
        row = (milliseconds / 1000, "given")
    elif pace is not None and pace.work_seconds is not None:
        row = (pace.work_seconds / pace.urls, f"measured on {pace.urls:,} urls")
    else:
        row = (MILLISECONDS / 1000, "assumed")
    return Figures(*row, steps or STEP_SECONDS, "given" if steps else "counted FLOPs at 40 % of peak")


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
    figures: Figures = field(default_factory=lambda: figures(None, None, None))


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
        return [*days, f"{self.dollars:,.0f}", duration(self.interval) if self.interval else "–"]


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
    calm = ROWS * given.figures.seconds_per_row / (given.tasks * given.cpu_machines)
    hourly = given.dollars_per_cpu_machine_hour * given.cpu_machines
    runs.append(
        Run(
            "download and filter",
            f"{given.cpu_machines} machines of {given.tasks} tasks",
            calm,
            *data,
            data[1] / 3600 * hourly,
        )
    )
    points = tuple((float(count), *_lost(_data(given, count), 0.0)) for count in MACHINES)
    curves.append(Curve(f"Download and filter of {ROWS:,} rows", "machines", "days", points))
    for (name, (steps, gpus)), seconds in zip(TRAININGS.items(), given.figures.step_seconds, strict=True):
        run, own = _training(given, name, Training(steps, seconds, given.checkpoint_seconds), gpus)
        runs.append(run)
        curves += own
    return Simulated(tuple(runs), tuple(curves), _notes(given))


def _data(given: Given, machines: int) -> tuple[float, float, float]:
    rows = Pool(ROWS, ROWS_PER_PART, given.figures.seconds_per_row, given.tasks)
    return quantiles(pool(rows, replace(given.machine, machines=machines), given.seeds))


def _days(seconds: float) -> float:
    return seconds / 86400


def _lost(three: tuple[float, float, float], work: float) -> tuple[float, float, float]:
    """Return the days that quantiles of a run's seconds lie above its work."""
    low, median, high = (_days(each - work) for each in three)
    return low, median, high


def _training(given: Given, name: str, run: Training, gpus: int) -> tuple[Run, list[Curve]]:
    cluster = replace(given.machine, machines=-(-gpus // given.gpus_per_machine))
    work, state = run.work(cluster), run.checkpoint_seconds
    right = daly(state, cluster.between_failures)
    tried = [right * factor for factor in FACTORS]
    spread = [(each, quantiles(train(work, each, state, cluster, given.seeds))) for each in tried]
    best = best_interval(work, state, cluster, tried, given.seeds)
    low, median, high = spread[FACTORS.index(1.0)][1]
    found = Run(
        name,
        f"{gpus} GPUs on {cluster.machines} machines",
        work,
        low,
        median,
        high,
        median / 3600 * gpus * given.dollars_per_gpu_hour,
        right,
        best,
    )
    by_interval = Curve(
        f"{name}: lost to failures and states, by interval between states",
        "minutes of work between states",
        "days",
        tuple((each / 60, *_lost(three, work)) for each, three in spread),
        mark=young(state, cluster.between_failures) / 60,
        marked="Young",
        formula=tuple((each / 60, _days(expected(work, each, state, cluster) - work)) for each in tried),
    )
    return found, [by_interval, _by_failures(given, name, run, cluster)]


def _by_failures(given: Given, name: str, run: Training, cluster: Cluster) -> Curve:
    points = list[tuple[float, float, float, float]]()
    for hours in HOURS:
        frail = replace(cluster, mtbf_hours=hours)
        interval = daly(run.checkpoint_seconds, frail.between_failures)
        three = quantiles(train(run.work(frail), interval, run.checkpoint_seconds, frail, given.seeds))
        points.append((hours, *_lost(three, run.work(frail))))
    title = f"{name}: lost, by how often machines fail, states at Daly's interval"
    return Curve(
        title, "hours between failures of one machine", "days", tuple(points), given.machine.mtbf_hours, "given"
    )


def _notes(given: Given) -> tuple[str, ...]:
    machine = given.machine
    return (
        f"A row takes a task {1000 * given.figures.seconds_per_row:,.1f} ms ({given.figures.row_source}); steps take "
        f"{' and '.join(f'{each:g} s' for each in given.figures.step_seconds)} ({given.figures.step_source}).",
        f"A machine fails every {machine.mtbf_hours:,g} hours on the mean and is back after "
        f"{duration(machine.restart_seconds)}; a state takes {given.checkpoint_seconds:g} s; speeds differ "
        f"by a spread of {machine.straggler_sigma:g}, and a step waits for the slowest.",
        f"Shown are the 5th, 50th and 95th percentile of {given.seeds} runs. Nothing of it was run at this size.",
    )
