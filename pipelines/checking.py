"""The command that compares our models with numbers recorded from the official code."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.options import app
from pipelines.terminal import clear_errors, console


@app.command()
def parity(
    folder: Annotated[Path, typer.Argument(help="Recordings, in the format of tests/parity.")],
    failures: Annotated[bool, typer.Option("--failures", help="Show only what differs.")] = False,
) -> None:
    """Compare our models with numbers recorded from the official code; exit 1 where something differs."""
    with clear_errors():
        import torch

        from stages.parity import check_folder

        torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
        checked = check_folder(folder)
        table = Table()
        for column in ("file", "what", "error", "allowed", "", "note"):
            table.add_column(column, overflow="fold")
        files = wrong = 0
        for each in checked:
            files, wrong = files + 1, wrong + (not each.passed)
            for number, line in enumerate(each.lines):
                if failures and line.passed:
                    continue
                verdict = "pass" if line.passed else "[bold red]FAIL[/]"
                name = "" if number and not failures else each.file
                error = f"{line.error:.1e}" if line.error else "0"
                allowed = f"{line.tolerance:.0e}" if line.tolerance else "0"
                table.add_row(escape(name), escape(line.what), error, allowed, verdict, escape(line.note))
            table.add_section()
        console.print(table)
        console.print(f"{files - wrong} of {files} files pass", highlight=False)
        if wrong:
            raise typer.Exit(1)
