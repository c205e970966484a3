"""What the steps of a plan handle, summed over sources: a table, and how each line of it is known."""

from collections.abc import Callable, Sequence

from pipelines.amounts import Amounts
from pipelines.sections import Section

HEAD = ("stage", "of", "rows in", "rows out", "requests", "GB in", "GB out", "CPU hours", "GPU hours")
COLUMNS = ("rows_in", "rows_out", "requests", "gigabytes_in", "gigabytes_out", "cpu_hours", "gpu_hours")
UNKNOWN = "?"


def section(found: Sequence[Amounts]) -> Section:
    """Return a row for each group of steps."""
    groups: dict[str, list[Amounts]] = {}
    for each in found:
        groups.setdefault(each.group, []).append(each)
    rows = tuple(
        (
            name,
            str(len(group)),
            *(_summed([getattr(each, column) for each in group], _cell(column)) for column in COLUMNS),
        )
        for name, group in groups.items()
    )
    return Section(
        "rows, bytes and hours", HEAD, rows, ("? is not known; > is known of some only", *_sources(groups))
    )


def _sources(groups: dict[str, list[Amounts]]) -> list[str]:
    """Return by which each line is known, lines that are known alike together."""
    said: dict[str, list[str]] = {}
    for name, group in groups.items():
        for source in dict.fromkeys(each.source for each in group if each.source):
            said.setdefault(source, []).append(name)
    return [f"{', '.join(names)}: {source}" for source, names in said.items()]


def _cell(column: str) -> Callable[[float], str]:
    return _hours if column.endswith("hours") or column.startswith("gigabytes") else lambda value: f"{value:,.0f}"


def _hours(value: float) -> str:
    """Return three figures, so that small and large ones both say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _summed(values: Sequence[float | None], said: Callable[[float], str]) -> str:
    """Return a sum; what does not apply is left empty."""
    known = [value for value in values if value is not None]
    if not known:
        return UNKNOWN
    if len(known) < len(values):
        return f"> {said(sum(known))}" if any(known) else UNKNOWN
    return said(sum(known)) if any(known) else ""
