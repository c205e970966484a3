"""Every benchmark as lines of one table: ours, the paper's, how far apart, or why it was not run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.evaluation_metrics import Measure
from stages.evaluations.choice import Named, named_rows
from stages.evaluations.leaks import Leak
from stages.evaluations.protocols import PROTOCOLS, measurable, with_queries
from stages.evaluations.registry import Benchmark, Reported, benchmarks
from stages.evaluations.results import Result
from stages.evaluations.subject import MODELS, Kind

BEYOND = "Not measured by us"
"""Where published numbers stand that none of our protocols gives."""
PAPER = "arXiv 2312.14238"
"""Source of the paper's own numbers, which go before those of later systems."""
WAYS = 2
"""Settings that are named, of those by which rows of one benchmark differ."""


@dataclass(frozen=True)
class Line:
    """One measure of one row."""

    name: str
    """Of the row."""
    task: str
    benchmark: str
    language: str
    metric: str
    ours: Measure | None = None
    paper: Reported | None = None
    way: str = ""
    """Settings that tell it from other rows of the same benchmark, protocol and language."""
    own_model: bool = True
    """Whether the paper's number is about this kind of model."""
    departures: tuple[str, ...] = ()
    """Where it was not measured as the paper did, or as a user's own description says."""
    why: str = ""
    """Why it was not run; empty where it was."""

    @property
    def titled(self) -> str:
        """Return the benchmark's title, and what tells the row from others of it."""
        return ", ".join(filter(None, (self.benchmark, self.way)))

    @property
    def difference(self) -> float | None:
        """Return ours less the paper's; None where one is missing, or ours was not measured as the paper's was."""
        if self.ours is None or self.paper is None or self.departures:
            return None
        return self.ours.value - self.paper.value


@dataclass(frozen=True)
class Board:
    """All lines, and what is needed for those that were not run."""

    lines: tuple[Line, ...]
    """By task; in it what was measured first."""
    missing: Mapping[str, Benchmark] = field(default_factory=dict)
    """Benchmarks that could be measured if their data were given, by name."""
    leaks: Sequence[Leak] = ()

    def line(self, name: str) -> Line:
        """Return the first line of a row."""
        return next(line for line in self.lines if line.name == name)

    @property
    def measured(self) -> int:
        """Return how many rows were measured."""
        return len({line.name for line in self.lines if not line.why})

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len({line.name for line in self.lines if line.task != BEYOND})


def board_of(kind: Kind, results: Mapping[str, Result], own: Sequence[Benchmark], leaks: Sequence[Leak]) -> Board:
    """Return the table of a checkpoint: all benchmarks of the registry, then the user's own.

    Args:
        kind: What the checkpoint is.
        results: What was measured, by row.
        own: Benchmarks of the user's.
        leaks: What is known of pictures that it was trained on.
    """
    named = [each for spec in (*benchmarks().values(), *own) for each in named_rows(spec)]
    order = {protocol: number for number, protocol in enumerate(PROTOCOLS)}
    named.sort(key=lambda each: (order[each.row.protocol], each.name not in results))
    lines = [line for each in named for line in _lines(each, kind, results.get(each.name))]
    lines += [line for spec in benchmarks().values() for line in _beyond(spec)]
    without = {each.benchmark.name: each.benchmark for each in named}
    done = {line.name for line in lines if not line.why}
    missing = {
        each.benchmark.name: without[each.benchmark.name]
        for each in named
        if each.name not in done and not measurable(each.row, kind)
    }
    return Board(tuple(lines), missing, tuple(leaks))


def _lines(named: Named, kind: Kind, result: Result | None) -> list[Line]:
    row, spec = named.row, named.benchmark
    models, published = _models(named, kind), _comparable(named, kind)
    why = "" if result else measurable(row, kind) or "its data was not given"
    metrics = list(dict.fromkeys(each.metric for each in published if each.model in models or not models))
    metrics = metrics or list(dict.fromkeys(each.metric for each in row.paper))
    if result is not None:
        measured = [metric for metric in metrics if result.measure(metric)]
        metrics = measured or [each.name for each in result.measures[:1]]
    found = []
    for metric in metrics or [""]:
        reported = _reported(published, metric, models)
        found.append(
            Line(
                name=named.name,
                task=PROTOCOLS[row.protocol].title,
                benchmark=spec.title,
                way=_way(named),
                language=row.language,
                metric=metric,
                ours=result.measure(metric) if result else None,
                paper=reported,
                own_model=reported is None or reported.model in models,
                departures=result.departures if result else (),
                why=why,
            )
        )
    return found if result else found[:1]


def _way(named: Named) -> str:
    """Return the settings that tell a row from others of its benchmark and protocol, words before numbers."""
    row = named.row
    rivals = [
        each.settings
        for each in named.benchmark.rows
        if (each.protocol, each.language) == (row.protocol, row.language)
    ]
    names = {name: None for settings in rivals for name in settings}
    telling = [name for name in names if any(each.get(name) != rivals[0].get(name) for each in rivals)]
    telling.sort(key=lambda name: not isinstance(row.settings.get(name, ""), str | bool))
    said = (f"{name.replace('_', ' ')} {row.settings[name]}" for name in telling[:WAYS] if name in row.settings)
    return ", ".join(each.removesuffix(" True") for each in said)


def _beyond(spec: Benchmark) -> list[Line]:
    """Return the published numbers that none of our protocols gives."""
    return [
        Line(
            name=f"{spec.name}.beyond.{number}", task=BEYOND, benchmark=spec.title, language="", metric=each.what,
            paper=max(each.paper, key=lambda one: one.value, default=None), own_model=False, why=each.why,
        )
        for number, each in enumerate(spec.not_measured)
    ]  # fmt: skip


def _models(named: Named, kind: Kind) -> tuple[str, ...]:
    """Return the published models that a row of this checkpoint is held against, the likest first."""
    if kind == "generative" and not with_queries(named.row) and named.row.protocol != "captioning":
        return (*MODELS["contrastive"], *MODELS["generative"])
    return MODELS[kind]


def _comparable(named: Named, kind: Kind) -> tuple[Reported, ...]:
    """Return the numbers that say something beside a checkpoint's: what InternVL-G writes is no chat model's."""
    if kind == "instruct" and named.row.protocol == "captioning":
        return tuple(each for each in named.row.paper if each.model not in MODELS["generative"])
    return named.row.paper


def _reported(paper: Sequence[Reported], metric: str, models: Sequence[str]) -> Reported | None:
    """Return the number to hold ours against: of the likest model, of several chat systems the paper's best."""
    same = [each for each in paper if each.metric == metric]
    for model in models:
        if found := [each for each in same if each.model == model]:
            return found[0]
    return max(same, key=lambda each: (PAPER in each.source, each.value), default=None)
