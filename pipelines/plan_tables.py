"""Tables of a cluster's budget in the terminal, and the same as markdown for an artifact."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from infra.storage import Store
from pipelines.clusters import Gpus
from pipelines.terminal import console
from stages.quantities import duration
from stages.ref import Ref

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget
    from pipelines.plan_memory import Fit

TIMES: "Sequence[tuple[str, Callable[[Budget], str]]]" = (
    ("stage", lambda each: each.training.stage),
    ("state", lambda each: each.state),
    ("GPUs", lambda each: f"{each.gpus or '–'}"),
    ("of peak", lambda each: f"{each.utilisation.share:.0%}"),
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
    """Return a row for each stage that trains something."""
    return [[cell(each) for _, cell in TIMES] for each in found if each.training.samples]


def memory_rows(found: "Sequence[Budget]") -> list[list[str]]:
    """Return a row for each stage and way of lying over the processes, in 10^9 bytes of one GPU."""
    return [[each.training.stage, *(cell(fit) for _, cell in MEMORY)] for each in found for fit in each.fits]


def sources(found: "Sequence[Budget]") -> list[str]:
    """Return a line for each stage that says how its share of the peak is known."""
    return [
        f"{each.training.stage}: {each.utilisation.share:.1%} of peak, {each.utilisation.source}"
        for each in found
        if each.training.samples
    ]


def show_budgets(found: "Sequence[Budget]", gpus: Gpus) -> None:
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


def markdown(found: "Sequence[Budget]", gpus: Gpus) -> str:
    """Return both tables and how the shares are known."""
    lines: list[str] = []
    for title, names, rows in _tables(found, gpus):
        lines += [f"### {title}", "", f"| {' | '.join(names)} |", "|" + " --: |" * len(names)]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*lines, *(f"- {line}" for line in sources(found))])


def _tables(found: "Sequence[Budget]", gpus: Gpus) -> list[tuple[str, list[str], list[list[str]]]]:
    return [
        (f"time on {gpus}", [name for name, _ in TIMES], time_rows(found)),
        ("memory of one GPU, GB", ["stage", *(name for name, _ in MEMORY)], memory_rows(found)),
    ]


def show_compared(ref: Ref, store: Store, as_json: bool) -> None:
    """Print what was forecast of a run beside what came."""
    from pipelines.plan_compared import compare  # imports torch with the meters

    found = compare(ref, store)
    if as_json:
        print(json.dumps([{**asdict(each), "ratio": each.ratio} for each in found], indent=2))
        return
    table = Table(str(ref), "forecast", "fact", "forecast / fact")
    for each in found:
        table.add_row(each.what, f"{each.forecast:,.4g}", f"{each.fact:,.4g}", f"{each.ratio:.2f}")
    console.print(table)
