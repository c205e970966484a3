"""The command `status`: what runs now, how fast, what failed last and the next move, disk, links."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.settings import Settings, settings
from infra.storage import Store
from pipelines.options import app
from pipelines.standing import Installation, Stage, standing_of
from pipelines.terminal import clear_errors, console, forms, reports

SECONDS = 3.0
MOST_LINES = 12
"""Lines of a failure's message; the last ones say why."""


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep it on the screen, up to date.")] = False,
    links: Annotated[
        bool, typer.Option("--links", help="Print what lets a browser in: the link to reports, Prefect's password.")
    ] = False,
) -> None:
    """Tell what runs now, how fast and for how long still, what failed last, disk, and where to look."""
    with clear_errors():
        from pipelines.live.shelf import Shelf

        here = settings()
        if links:
            for line in ways_in(here):
                print(line)
            return
        from pipelines.prefect_door import join

        join(here)
        shelf, ways = Shelf(Store(here.store_root)), {"runs and forms": forms(here), "reports": reports(here)}
        if as_json:
            console.print_json(data=standing_of(here, shelf).plain())
        elif watch:
            _watch(lambda: drawn(standing_of(here, shelf), ways))
        else:
            console.print(drawn(standing_of(here, shelf), ways))


def ways_in(here: Settings) -> list[str]:
    """Return what a person's browser is let in with, for that person's eyes alone."""
    from pipelines.prefect_door import password_of
    from pipelines.report_door import link

    password = password_of(here)
    lines = [f"reports         {link(here)}", f"runs and forms  {here.prefect_ui_url}"]
    return [*lines, f"  its password  {password}"] if password else lines


def _watch(draw: Callable[[], RenderableType]) -> None:
    """Draw until Ctrl-C, which ends the looking and nothing else."""
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(draw(), refresh=True)
            time.sleep(SECONDS)


def drawn(now: Installation, ways: Mapping[str, str]) -> RenderableType:
    """Return it for a terminal.

    Args:
        now: What is told.
        ways: Addresses that ask who comes, by name, with as much of how to get in as this terminal may show.
    """
    parts: list[RenderableType] = [*_services(now), *_runs(now)]
    running = [stage for stage in now.stages if stage.doing in ("running", "waiting")]
    parts += [Text("\nstages", style="bold"), _bars(running) if running else Text("nothing runs now")]
    for stage in now.stages:
        if stage not in running:
            parts += _ended(stage)
        elif stage.next:
            parts.append(Text(f"{stage.artifact}: {stage.next}", style="yellow"))
    for run in now.failed_runs:
        parts.append(Text(f"\n{run.state.lower()} run {run.flow}/{run.name}  {run.page}", style="red"))
        parts.append(Text(_last_lines(run.message)))
    parts += [Text(f"damaged: {each}", style="red") for each in now.unreadable]
    parts.append(Text(f"\n{now.finished} finished artifacts"))
    parts += [
        Text(f"disk {disk.path}: {disk.free_bytes / 1e9:,.1f} GB free of {disk.total_bytes / 1e9:,.1f} GB")
        for disk in now.disks
    ]
    parts.append(_links({**now.links, **ways}))
    if now.tensorboard:
        parts.append(Text(f"training's numbers by step: {now.tensorboard}"))
    return Group(*parts)


def _services(now: Installation) -> list[RenderableType]:
    states = {"Prefect": now.runs is not None, "Ray": now.ray_answers, "reports": now.reports_answer}
    absent = [name for name, answers in states.items() if not answers and not (name == "Prefect" and now.refused)]
    told: list[RenderableType] = [Text(now.refused, style="red")] if now.refused else []
    if not absent:
        return told
    return [*told, Text(f"no answer from {', '.join(absent)}; start what is missing: internvl up", style="yellow")]


def _runs(now: Installation) -> list[RenderableType]:
    lines = (f"{run.state.lower()} {run.flow}/{run.name}  {run.page}  {run.message}" for run in now.runs or ())
    return [Text(line.rstrip()) for line in lines]


def _bars(stages: list[Stage]) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage in stages:
        bar = ProgressBar(total=1.0, completed=stage.share, width=24)
        table.add_row(Text(stage.artifact), bar, Text(f"{100 * stage.share:3.0f} %"), Text(_words(stage)))
    return table


def _words(stage: Stage) -> str:
    quiet = stage.heard_seconds or 0.0
    return stage.words + (f" (told {quiet / 60:.0f} min ago)" if quiet >= 120 else "")


def _ended(stage: Stage) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text(f"\n{stage.doing} {stage.artifact}: {stage.words}", style="red" if stage.message else "yellow")
    ]
    if stage.message:
        lines.append(Text(_last_lines(stage.message)))
    return [*lines, Text(f"next: {stage.next}")]


def _last_lines(message: str) -> str:
    lines = message.rstrip().splitlines()
    return "\n".join(["...", *lines[-MOST_LINES:]] if len(lines) > MOST_LINES else lines)


def _links(links: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, address in links.items():
        table.add_row(Text(name), Text(address))
    return table
