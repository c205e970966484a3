"""Tables of a cluster's budget, and of forecasts beside what came."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.clusters import Gpus
from pipelines.sections import Section
from stages.forecasts import Compared
from stages.quantities import duration

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.budget import Budget
    from pipelines.plan_memory import Fit
    from pipelines.utilisation import Utilisation

NONE = "–"


def _known(said: "Callable[[Budget], str]") -> "Callable[[Budget], str]":
    """Return a cell that stays empty where the time of a step is not known."""
    return lambda each: said(each) if each.step_seconds else NONE


TIMES: "Sequence[tuple[str, Callable[[Budget], str]]]" = (
    ("stage", lambda each: each.training.stage),
    ("state", lambda each: each.state),
    ("GPUs", lambda each: f"{each.gpus or NONE}"),
    (
        "of peak",
        lambda each: f"{each.utilisation.share:.0%}" if each.utilisation and each.utilisation.share else NONE,
    ),
    ("step", _known(lambda each: _step(each.step_seconds))),
    ("GPU hours", _known(lambda each: f"{each.gpu_hours:,.0f}" if each.gpus else NONE)),
    ("days", _known(lambda each: f"{each.days:,.1f}")),
    ("dollars", _known(lambda each: NONE if each.dollars is None or not each.gpus else f"{each.dollars:,.0f}")),
    ("decode cores", _known(lambda each: f"{each.decode_cores:,.1f}")),
    ("GB/s read", _known(lambda each: f"{each.gigabytes_per_second:,.3f}")),
)
MEMORY: "Sequence[tuple[str, Callable[[Budget, Fit], str]]]" = (
    ("stage", lambda each, fit: each.training.stage),
    ("placed", lambda each, fit: fit.sharding),
    ("rows", lambda each, fit: f"{fit.rows:,}"),
    ("weights", lambda each, fit: _gigabytes(fit.memory.weights)),
    ("optim.", lambda each, fit: _gigabytes(fit.memory.optimizer)),
    ("grads", lambda each, fit: _gigabytes(fit.memory.gradients)),
    ("acts", lambda each, fit: _gigabytes(fit.memory.activations)),
    ("loss", lambda each, fit: _gigabytes(fit.memory.loss)),
    ("gathered", lambda each, fit: _gigabytes(fit.memory.gathered)),
    ("batch", lambda each, fit: _gigabytes(fit.memory.batch)),
    ("CUDA", lambda each, fit: _gigabytes(fit.memory.framework)),
    ("all", lambda each, fit: _gigabytes(fit.memory.total)),
    ("fit", lambda each, fit: (f"{fit.largest:,}" if fit.largest else "none") if each.gpus else NONE),
)


def _share(known: "Utilisation | None") -> str:
    return f"{known.share:.0%}" if known and known.share else NONE


def _step(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2f} s"


def _gigabytes(count: int) -> str:
    """Return 10^9 bytes; small models have less than a tenth of one."""
    size = count / 1e9
    return f"{size:,.1f}" if size >= 0.1 else f"{size:.3f}" if size >= 0.0005 else "0"


def budget_sections(found: "Sequence[Budget]", gpus: Gpus | None) -> list[Section]:
    """Return time, then memory, and how the speeds are known; nothing where nothing is reckoned."""
    trained = [each for each in found if each.fits]
    if not trained:
        return []
    times = tuple(tuple(cell(each) for _, cell in TIMES) for each in trained)
    memory = tuple(tuple(cell(each, fit) for _, cell in MEMORY) for each in trained for fit in each.fits)
    notes = tuple(line for each in trained for line in _remarks(each))
    said = (
        "rows computed at once, and the most of them that fit; optim., grads and acts are the optimizer's moments, "
        "gradients and activations, CUDA its context, NCCL's buffers and gaps of the allocator"
    )
    return [
        Section(f"time on {gpus or 'this machine'}", tuple(name for name, _ in TIMES), times, notes, words=2),
        Section(
            "memory of one GPU, or of one process on CPUs, GB", tuple(name for name, _ in MEMORY), memory, (said,), 2
        ),
    ]


def _remarks(each: "Budget") -> list[str]:
    lines = [*each.said]
    if each.utilisation is not None:
        lines.append(_speed(each.utilisation))
    elif not each.gpus:
        lines.append("trains on CPUs, how fast is not known: internvl plan --calibrate measures it on this machine")
    return [f"{each.training.stage}: {line}" for line in lines]


def _speed(known: "Utilisation") -> str:
    if known.share is None:
        return f"{known.flops_per_second / 1e9:,.1f} GFLOP/s useful on each CPU, {known.source}"
    return f"{known.share:.1%} of peak, {known.source}"


def compared_section(found: Mapping[str, Sequence[Compared]], said: Sequence[str] = ()) -> list[Section]:
    """Return what was forecast of runs beside what came, and what is said of others; nothing where there are none."""
    rows = tuple(
        (ref, each.what, f"{each.forecast:,.4g}", f"{each.fact:,.4g}", f"{each.ratio:.2f}")
        for ref, lines in found.items()
        for each in lines
    )
    head = ("run", "what", "forecast", "fact", "forecast / fact")
    return [Section("forecast and fact", head, rows, tuple(said), 2)] if rows or said else []
