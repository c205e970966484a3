"""The command that lists the benchmarks, and the generated half of docs/reference/benchmarks.md."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from pipelines.options import app
from pipelines.terminal import clear_errors, console

if TYPE_CHECKING:
    from stages.evaluations.registry import Benchmark, NotMeasured, Reported, Row

MARK = "<!-- from here on: internvl benchmarks --markdown --own tests/stages/evaluations/own -->"
_DISTINGUISH = ("kind", "mode")
"""Settings that make another path of a protocol, not only another number."""
_SHOWN = 3


@app.command()
def benchmarks(
    name: Annotated[str | None, typer.Argument(help="One benchmark with what to fetch; all when left out.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of all datasets: says which are there.")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", help="NAME=PATH of a dataset elsewhere; repeatable.")
    ] = None,
    own: Annotated[
        list[Path] | None, typer.Option("--own", help="A YAML file of your own dataset, or a folder of them.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page instead.")] = False,
) -> None:
    """List the paper's benchmarks: published numbers, whether your data hold them; with a name, what to fetch."""
    with clear_errors():
        from pipelines.wanted import Wanted
        from stages.evaluations.registry import benchmark
        from stages.evaluations.registry import benchmarks as registered

        mine = own_benchmarks(own or [])
        if markdown:
            print(page(mine), end="")
            return
        places = Wanted.of(str(data or ""), at=at or []).at
        if name is not None:
            _show(next((each for each in mine if each.name == name), None) or benchmark(name), data, places)
            return
        table = Table(Column("benchmark", no_wrap=True), "measured as", "examples", "paper", "data")
        for each in [*registered().values(), *mine]:
            table.add_row(each.name, _measured_as(each), _count(each), _best(each), _found(each, data, places))
        console.print(table)
        console.print("one of them with what to fetch: internvl benchmarks NAME", style="dim")


def own_benchmarks(paths: Iterable[Path]) -> list["Benchmark"]:
    """Return the datasets that a user describes, in files or folders of them.

    Raises:
        ManifestError: A file describes none, or two have the same name.
    """
    from stages.evaluations.registry import benchmarks as registered
    from stages.evaluations.registry import load_own
    from stages.manifest import ManifestError

    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    found: dict[str, Benchmark] = {}
    for file in files:
        each = load_own(file)
        if each.name in found or each.name in registered():
            raise ManifestError(f"{file} describes {each.name}, a name that is taken; give it another name")
        found[each.name] = each
    return list(found.values())


def _show(each: "Benchmark", data: Path | None, places: dict[str, Path]) -> None:
    from stages.evaluations.data import what_to_fetch
    from stages.evaluations.protocols import PROTOCOLS

    table = Table("measured as", "settings", "model", "measure", "published", "where", title=each.title)
    for row in each.rows:
        for number, paper in enumerate(row.paper or (None,)):
            first = (PROTOCOLS[row.protocol].title, _settings(row)) if number == 0 else ("", "")
            table.add_row(*first, *((paper.model, paper.metric, shown(paper), paper.source) if paper else ("-",) * 4))
    for never in each.not_measured:
        for paper in never.paper:
            table.add_row("not measured by us", "", paper.model, paper.metric, shown(paper), paper.source)
    console.print(table)
    facts = {
        "Examples": _count(each),
        "Classes": f"{each.classes:,}" if each.classes else "",
        "Not measured": "; ".join(never.why for never in each.not_measured),
        "Data": _found(each, data, places),
        "To fetch": what_to_fetch(each) if each.rows else "",
    }
    for word, text in facts.items():
        if text:
            console.print(f"[bold]{word}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def _measured_as(each: "Benchmark") -> str:
    names = dict.fromkeys(row.protocol for row in each.rows)
    return ", ".join(names) if names else "not by us"


def _count(each: "Benchmark") -> str:
    return f"{each.examples:,}" if each.examples else "-"


def _best(each: "Benchmark") -> str:
    papers = [row.paper for row in each.rows if row.paper] + [never.paper for never in each.not_measured]
    return _published(papers[0]) if papers else "-"


def _found(each: "Benchmark", data: Path | None, places: dict[str, Path]) -> str:
    from stages.evaluations.data import find_place

    if not each.rows:
        return "-"
    place = find_place(each, data, places)
    if place is not None:
        return str(place) if place.exists() else f"not at {place}"
    return "not found" if data else "give --data"


def shown(paper: "Reported") -> str:
    """Return a published number as papers print it: shares in percent, sums of points as they are."""
    return f"{paper.value:.1f}" if paper.value > 2 else f"{100 * paper.value:.1f}"


def _published(papers: Sequence["Reported"]) -> str:
    """Return the first measure's numbers by model; what was logged again is left out."""
    first = [paper for paper in papers if paper.metric == papers[0].metric]
    by_model = {paper.model: shown(paper) for paper in reversed(first)}
    told = [f"{model} {by_model[model]}" for model in dict.fromkeys(paper.model for paper in first)]
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{papers[0].metric}: {'; '.join(told[:_SHOWN])}{more}"


def _settings(row: "Row") -> str:
    said = {**({"language": row.language} if row.language != "en" else {}), **row.settings}
    return ", ".join(f"{name}={value}" for name, value in said.items()).replace("True", "yes")


def _path(row: "Row") -> tuple[str, ...]:
    return (row.protocol, *(str(row.settings.get(name, "")) for name in _DISTINGUISH))


def page(own: Sequence["Benchmark"]) -> str:
    """Return the generated half of the reference page.

    Args:
        own: Datasets of real pictures on which protocols were run.
    """
    from stages.evaluations.protocols import PROTOCOLS
    from stages.evaluations.registry import benchmarks as registered

    known = list(registered().values())
    run: dict[tuple[str, ...], list[str]] = {}
    for each in own:
        for row in each.rows:
            if each.real_data:
                run.setdefault(_path(row), []).append(f"`{each.name}`")
    lines = []
    for protocol, how in PROTOCOLS.items():
        rows = [(each, row) for each in known for row in each.rows if row.protocol == protocol]
        lines += ["", f"## {how.title} ({len(rows)})", "", *_table(rows, run)]
    lines += [
        "",
        "## Not measured by us",
        "",
        *_never((each, never) for each in known for never in each.not_measured),
    ]
    lines += ["", "## Run on real data", "", "| dataset | what it is | protocols |", "| :-- | :-- | :-- |"]
    lines += [f"| `{each.name}` | {each.real_data} | {_measured_as(each)} |" for each in own if each.real_data]
    lines += ["", "## What to fetch", ""]
    lines += [
        f"- **`{each.name}`** {each.title}: {each.get.rstrip('.')}. <{each.homepage}> ({each.licence})"
        for each in known
        if each.rows
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[tuple["Benchmark", "Row"]], run: dict[tuple[str, ...], list[str]]) -> Iterator[str]:
    yield "| benchmark | settings | command | data | published | path run on real data |"
    yield "| :-- | :-- | :-- | :-- | :-- | :-- |"
    for each, row in rows:
        data = f"{_count(each)} examples; " if each.examples else ""
        cells = (
            each.title, _settings(row) or "the paper's",
            f"`internvl evaluate CHECKPOINT --data DIR --benchmark {each.name}`",
            f"{data}`DIR/{each.place or each.name}` as {', '.join(each.formats)}",
            _published(row.paper) if row.paper else "-", ", ".join(run.get(_path(row), [])) or "no",
        )  # fmt: skip
        # A prompt among the settings has lines.
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _never(rows: Iterable[tuple["Benchmark", "NotMeasured"]]) -> Iterator[str]:
    yield "| benchmark | what is published | why not | published |"
    yield "| :-- | :-- | :-- | :-- |"
    for each, never in rows:
        yield f"| {each.title} | {never.what} | {never.why} | {_published(never.paper) if never.paper else '-'} |"
