"""Tables with a title and remarks, that are printed in a terminal or kept as markdown: one content, two spellings."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from pipelines.terminal import console


@dataclass(frozen=True)
class Section:
    """One table; or remarks alone, where it has no rows."""

    title: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    words: int = 1
    """So many columns from the left hold words; those after them hold numbers."""


def show(found: Sequence[Section]) -> None:
    """Print sections in the terminal."""
    for each in found:
        if each.rows:
            table = Table(*each.head, title=each.title or None, title_justify="left")
            for column in table.columns[each.words :]:
                column.justify = "right"
            for row in each.rows:
                table.add_row(*(escape(cell) for cell in row))
            console.print(table)
        for line in each.notes:
            console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)


def markdown(found: Sequence[Section]) -> str:
    """Return sections as markdown."""
    lines: list[str] = []
    for each in found:
        if each.title and (each.rows or each.notes):
            lines += [f"### {each.title}", ""]
        if each.rows:
            rule = [":--"] * each.words + ["--:"] * (len(each.head) - each.words)
            lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (each.head, rule, *each.rows)]
            lines.append("")
        lines += [f"- {line}" for line in each.notes] + ([""] if each.notes else [])
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    """Return a cell that cannot leave its table, nor be a link or markup: hosts are named by strangers."""
    plain = text.strip().replace("\n", "; ")
    return "".join(f"\\{letter}" if letter in "\\|[]<>`" else letter for letter in plain)
