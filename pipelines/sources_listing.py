"""The command that lists the known sources, and the generated half of docs/reference/sources.md."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from pipelines.options import app
from pipelines.terminal import clear_errors, console

if TYPE_CHECKING:
    from stages.sources.catalog import KnownSource

MARK = "<!-- from here on: internvl sources --markdown -->"


@app.command()
def sources(
    name: Annotated[
        str | None, typer.Argument(help="One source with its columns; all in a table when left out.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page instead.")] = False,
) -> None:
    """List the published datasets whose schema is known: rows, language, licence; with a name, its columns."""
    with clear_errors():
        from stages.sources.catalog import known, source_named

        if markdown:
            print(page(), end="")
        elif name is not None:
            _show(source_named(name))
        else:
            table = Table(
                *(Column(name, no_wrap=True) for name in ("schema", "rows", "language")),
                "dataset",
                "columns taken",
                "licence",
            )
            for each in known().values():
                taken = ", ".join(f"{c.role}={c.name}" for c in each.columns if c.role)
                title = f"{each.title} (withdrawn)" if each.withdrawn else each.title
                table.add_row(each.name, _rows(each), each.language or "per row", title, taken, each.license_note)
            console.print(table)
            console.print("any other list: --schema generic with --url-column and --caption-column", style="dim")


def _show(source: "KnownSource") -> None:
    table = Table("column", "type", "taken as", "also called", title=f"{source.title}, {source.files}")
    for each in source.columns:
        table.add_row(each.name, each.type, each.role or "-", ", ".join(each.also))
    console.print(table)
    for line in _facts(source):
        console.print(line, highlight=False, markup=False)


def _rows(source: "KnownSource") -> str:
    return f"{source.rows:,}" if source.rows else "-"


def _facts(source: "KnownSource") -> list[str]:
    facts = {
        "Rows": _rows(source) + (f" ({source.paper} in Table 2 of the paper)" if source.paper else ""),
        "Language": source.language or "per row, where a column says it",
        "Judged as": source.profile,
        "Licence": source.license_note,
        "Provenance": source.provenance,
        "Withdrawn": f"refused unless --accept-withdrawn; take {source.withdrawn}" if source.withdrawn else "",
        "Defects": " ".join(source.defects),
    }
    return [f"{name}: {text}" for name, text in facts.items() if text]


def page() -> str:
    """Return the generated half of the reference page."""
    from stages.sources.catalog import known

    lines = [
        "",
        "| schema | dataset | files | rows | language | judged as |",
        "| :-- | :-- | :-- | --: | :-- | :-- |",
    ]
    for each in known().values():
        language = each.language or "per row"
        lines.append(f"| `{each.name}` | {each.title} | {each.files} | {_rows(each)} | {language} | {each.profile} |")
    for each in known().values():
        lines += ["", f"### {each.title}: `{each.name}`", ""]
        lines += [f"- {fact}" for fact in _facts(each)]
        lines += ["", "| column | type | taken as |", "| :-- | :-- | :-- |"]
        for column in each.columns:
            names = ", ".join(f"`{name}`" for name in (column.name, *column.also))
            role = (column.role or "") + ("" if column.required or not column.role else " (may be missing)")
            lines.append(f"| {names} | {column.type} | {role} |")
    return "\n".join(lines) + "\n"
