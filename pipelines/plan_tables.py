"""Tables of a cluster's budget in the terminal, and the same as markdown for an artifact."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from pipelines.clusters import Gpus
from pipelines.terminal import console
from stages.forecasts import Compared
from stages.quantities import duration

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget
    from pipelines.plan_memory import Fit
    from pipelines.utilisation import Utilisation

TIMES: "Sequence[tuple[str, Callable[[Budget], str]]]" = (
    ("stage", lambda each: each.training.stage),
    ("state", lambda each: each.state),
    ("GPUs", lambda each: f"{each.gpus or '–'}"),
    ("of peak", lambda each: f"{each.utilisation.share:.0%}" if each.utilisation and each.utilisation.share else "–"),
    ("step", lambda each: duration(each.step_seconds) if each.step_seconds >= 10 else f"{each.step_seconds:.2f} s"),
    ("GPU hours", lambda each: f"{each.gpu_hours:,.0f}"),
    ("days", lambda each: f"{each.days:,.1f}"),
    ("dollars", lambda each: "–" if each.dollars is None else f"{each.dollars:,.0f}"),
    ("decode cores", lambda each: f"{each.decode_cores:,.1f}"),
    ("GB/s read", lambda each: f"{each.gigabytes_per_second:,.3f}"),
)
MEMORY: "Sequence[tuple[str, Callable[[Fit], str]]]" = (
    ("placed", lambda fit: fit.sharding),
    ("micro batch", lambda fit: f"{fit.rows:,}"),
    ("weights", lambda fit: _gigabytes(fit.memory.weights)),
    ("optimizer", lambda fit: _gigabytes(fit.memory.optimizer)),
    ("gradients", lambda fit: _gigabytes(fit.memory.gradients)),
    ("activations", lambda fit: _gigabytes(fit.memory.activations)),
    ("loss", lambda fit: _gigabytes(fit.memory.loss)),
    ("gathered", lambda fit: _gigabytes(fit.memory.gathered)),
    ("batch", lambda fit: _gigabytes(fit.memory.batch)),
    ("framework", lambda fit: _gigabytes(fit.memory.framework)),
    ("all", lambda fit: _gigabytes(fit.memory.total)),
    ("largest that fits", lambda fit: f"{fit.largest:,}" if fit.largest else "none"),
)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f}"


def time_rows(found: "Sequence[Budget]") -> list[list[str]]:
    """Return a row for each stage whose time is known."""
    return [[cell(each) for _, cell in TIMES] for each in found if each.utilisation]


def memory_rows(found: "Sequence[Budget]") -> list[list[str]]:
    """Return a row for each stage and way of lying over the processes, in 10^9 bytes of one GPU."""
    return [[each.training.stage, *(cell(fit) for _, cell in MEMORY)] for each in found for fit in each.fits]


def sources(found: "Sequence[Budget]") -> list[str]:
    """Return a line for each stage that says how its speed is known."""
    return [f"{each.training.stage}: {_speed(each.utilisation)}" for each in found if each.utilisation]


def _speed(known: "Utilisation") -> str:
    if known.share is None:
        return f"{known.flops_per_second / 1e9:,.1f} GFLOP/s useful on each CPU, {known.source}"
    return f"{known.share:.1%} of peak, {known.source}"


def show_budgets(found: "Sequence[Budget]", gpus: Gpus | None) -> None:
    """Print both tables."""
    for title, names, rows in _tables(found, gpus):
        table = Table(*names, title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in sources(found):
        console.print(line, style="dim", highlight=False, markup=False)


def markdown(found: "Sequence[Budget]", gpus: Gpus | None) -> str:
    """Return both tables and how the shares are known."""
    lines: list[str] = []
    for title, names, rows in _tables(found, gpus):
        lines += [f"### {title}", "", f"| {' | '.join(names)} |", "|" + " --: |" * len(names)]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*lines, *(f"- {line}" for line in sources(found))])


def _tables(found: "Sequence[Budget]", gpus: Gpus | None) -> list[tuple[str, list[str], list[list[str]]]]:
    return [
        (f"time on {gpus or 'this machine'}", [name for name, _ in TIMES], time_rows(found)),
        (
            f"memory of one {'GPU' if gpus else 'process'}, GB",
            ["stage", *(name for name, _ in MEMORY)],
            memory_rows(found),
        ),
    ]


def show_compared(found: Mapping[str, Sequence[Compared]]) -> None:
    """Print what was forecast of runs beside what came."""
    table = Table("run", "what", "forecast", "fact", "forecast / fact")
    for ref, rows in found.items():
        for each in rows:
            table.add_row(ref, each.what, f"{each.forecast:,.4g}", f"{each.fact:,.4g}", f"{each.ratio:.2f}")
    console.print(table)
