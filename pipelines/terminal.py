"""A flow in the terminal: bars while it runs, one clear message when it cannot."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from infra.settings import Settings
from infra.storage import StorageError, StoreUnavailable
from pipelines.makers import next_move
from stages.errors import ManifestError, Missing
from stages.materialize import Drift
from stages.unreadable import fact_of

# A log has no width of its own; the summary's tables need this much.
console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120)


class Refusal(RuntimeError):
    """Something a user can put right; shown as one message, without a traceback."""


class Later(Refusal):
    """The same command may work later, and goes on with what is done."""


def explain(error: BaseException) -> str:
    """Return an error as one message: what pydantic found by field, what does not stand with the command for it."""
    if isinstance(error, Missing):
        return next_move(error)
    if isinstance(error, OSError) and error.filename is not None:
        return "{}: {}; {}".format(error.filename, *fact_of(error))
    if isinstance(error, ValidationError):
        return "; ".join(
            ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))))
            for each in error.errors()
        )
    return str(error)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what a user can put right into one message and exit code 2; 75 where the same command may work later."""
    from infra.jobs import JobsUnreachable
    from pipelines.launcher import LaunchError

    try:
        yield
    except KeyboardInterrupt:
        console.print("[bold red]stopped[/]; finished parts are kept: run the same command to go on")
        raise typer.Exit(130) from None
    except (
        Drift, ManifestError, StorageError, LaunchError, JobsUnreachable, Refusal, ValueError, FileNotFoundError,
        IsADirectoryError, NotADirectoryError, PermissionError,
    ) as error:  # fmt: skip
        console.print(f"[bold red]error:[/] {escape(explain(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(os.EX_TEMPFAIL if isinstance(error, StoreUnavailable | Later) else 2) from None


def links(here: Settings) -> None:
    """Print where a person looks."""
    console.print(f"runs and forms  {forms(here)}", highlight=False, soft_wrap=True)
    console.print(f"reports         {reports(here)}", highlight=False, soft_wrap=True)


def forms(here: Settings) -> str:
    """Return the address of runs and forms, and the password that it asks for: on a terminal alone, as `reports`."""
    from pipelines.prefect_door import password_of

    if not (password := password_of(here)):
        return here.prefect_ui_url
    shown = f"password {password}" if sys.stdout.isatty() else "internvl status --links prints the password"
    return f"{here.prefect_ui_url}  ({shown})"


def reports(here: Settings) -> str:
    """Return the address of the reports: with the token that lets in on a terminal alone, for logs are kept."""
    from pipelines.report_door import link

    letting_in = link(here)
    if sys.stdout.isatty() or letting_in == here.report_url:
        return letting_in
    return f"{here.report_url}  (internvl status --links prints the link that lets you in)"


def start(here: Settings) -> None:
    """Start the services, and make this process use them quietly."""
    from pipelines import launcher
    from pipelines.prefect_door import join

    launcher.up(here, lambda text: console.print(text, style="dim"))
    join(here)
    # The run's log goes to Prefect; the terminal shows bars instead.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    links(here)


class Bars:
    """One bar per running step and one for all; plain lines where the output is no terminal."""

    def __init__(self, progress: Progress) -> None:
        """Draw on a progress display."""
        self._progress, self._rows = progress, dict[str, TaskID]()
        self._whole = progress.add_task("all steps", total=None, note="")
        self.seconds: dict[str, float] = {}

    def __call__(self, artifact: str, state: str, facts: dict[str, Any]) -> None:
        """Draw what a step tells."""
        if state == "planned":
            self._progress.update(self._whole, total=facts["steps"])
        elif state == "waiting":
            console.print(f"waits for your approval: internvl approve {facts['run']}", highlight=False)
        elif state == "starting":
            self._rows[artifact] = self._progress.add_task(artifact, total=None, note="starting")
        elif state == "running":
            note = f"{facts['done']:g}/{facts['total']:g} {facts['unit']} {facts['note']}".rstrip()
            self._progress.update(self._rows[artifact], completed=facts["done"], total=facts["total"], note=note)
        else:
            if artifact in self._rows:
                self._progress.remove_task(self._rows.pop(artifact))
            if state == "done":
                self.seconds[artifact] = facts["seconds"]
            self._progress.advance(self._whole)
            if not sys.stdout.isatty():
                took = f" {facts['seconds']:.0f} s" if "seconds" in facts else ""
                console.print(f"{state:7} {artifact}{took}", highlight=False)


def run_flow(here: Settings, begin: Callable[[], list[str]]) -> tuple[list[str], dict[str, float], float]:
    """Start the services and run a flow; return its references, seconds per artifact made, seconds in all.

    Raises:
        Later: A stage's store, or a process of it, did not answer; what it made is kept.
        Refusal: A stage failed; what it made is kept.
    """
    started = time.monotonic()
    start(here)
    from prefect.exceptions import Abort

    from pipelines.job_ends import StageFailed, StageLater
    from pipelines.moves import watch

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        console=console, transient=not sys.stdout.isatty(), disable=not sys.stdout.isatty(),
    ) as progress:  # fmt: skip
        bars = Bars(progress)
        watch(bars)
        try:
            made = begin()
        except Abort as ended:
            raise Refusal(str(ended)) from ended
        except StageLater as error:
            raise Later(str(error)) from error
        except StageFailed as error:
            raise Refusal(f"{error}\nfinished parts are kept: run the same command to go on") from error
    return made, bars.seconds, time.monotonic() - started
