"""The command that asks what other thresholds would keep."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.names import SourceName
from pipelines.options import app
from pipelines.terminal import clear_errors, console

if TYPE_CHECKING:
    from pipelines.questions import Reply


@app.command()
def whatif(
    ref: Annotated[str, typer.Argument(help="Verdicts, as verdicts/caption_quality/laion_en@tiny.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="rule.field=value, as length_units.min_units=8; may be given again."),
    ] = None,
    source: Annotated[
        list[SourceName] | None,
        typer.Option("--source", help="Ask this source of the same policy and version too; may be given again."),
    ] = None,
    target: Annotated[
        float | None, typer.Option("--target", help="Find thresholds that keep this share of the judged rows.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", help="Find thresholds that keep as many rows as this, and not more.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option("--move", help="A rule that --target or --budget may move; may be given again."),
    ] = None,
    within: Annotated[
        float,
        typer.Option("--within", help="Take the smallest move that misses the goal by no more than this share."),
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Ask what other thresholds would keep; nothing is changed, and the command that would is printed."""
    with clear_errors():
        from pipelines.questions import Question, ask

        question = Question(tuple(change or ()), target, budget, tuple(move or ()), within)
        replies = ask(Store(settings().store_root), ref, question, [str(each) for each in source or ()])
        if as_json:
            sys.stdout.write(json.dumps([reply.plain() for reply in replies], indent=1, ensure_ascii=False) + "\n")
            return
        for reply in replies:
            _show(reply)


def _show(reply: "Reply") -> None:
    from pipelines.questions import sentences, tables

    console.print(f"[bold]{escape(str(reply.ref))}[/]", highlight=False)
    for each in tables(reply):
        if each.rows:
            table = Table(each.head[0])
            for name in each.head[1:]:
                table.add_column(name, justify="right")
            for row in each.rows:
                table.add_row(*map(escape, row))
            console.print(table)
    for text in sentences(reply):
        console.print(text, highlight=False, markup=False)
    if reply.command:
        console.print("to apply it:", style="dim")
        console.print(reply.command, highlight=False, markup=False, soft_wrap=True)
