"""What was measured, told in a terminal: the table of an evaluation, what to know of it, and where its page is."""

from typing import TYPE_CHECKING

from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.terminal import Refusal, console
from stages.manifest import Manifest, find_digest, load
from stages.ref import Ref

if TYPE_CHECKING:
    from stages.evaluations.views import Board


def tell(store: Store, made: Manifest) -> None:
    """Print the table of an evaluation, and where its page is."""
    page = made.reports.get("page")
    if made.stage == "benchmark":
        from stages.benchmark import read_board
        from stages.evaluations.wording import departed

        (name,) = made.identity["inputs"]
        board, _ = read_board(store, load(store, _measured(store, made, name)), made)
        console.print(_table(str(made.ref), board))
        for each in departed(board):
            console.print(each, highlight=False, markup=False, soft_wrap=True)
        for sentence, names in _grouped(board).items():
            style = "dim" if sentence.startswith("not checked") else ""
            said = f"{', '.join(names)}: {sentence}"
            console.print(said, style=style, highlight=False, markup=False, soft_wrap=True)
    if page is not None:
        console.print(f"{made.ref}  {store.path(made.key(page))}", highlight=False, soft_wrap=True)
        console.print(f"served at {settings().report_url}/{made.key(page)} while the services are up", style="dim")


def _grouped(board: "Board") -> dict[str, list[str]]:
    """Return what is known of leaks, and of which benchmarks."""
    found: dict[str, list[str]] = {}
    for each in board.leaks:
        found.setdefault(each.said, []).append(each.benchmark)
    return found


def _measured(store: Store, made: Manifest, name: str) -> Ref:
    found = find_digest(store, name, made.identity["inputs"][name], made.ref.version)
    if found is None:
        raise Refusal(f"{made.ref} measured a {name} that is gone or was made anew; measure it again")
    return found.ref


def _table(title: str, board: "Board") -> Table:
    from stages.evaluations.wording import interval, paper, said, signed

    table = Table(title=f"{title}: {board.measured} of {board.rows} rows measured", title_justify="left")
    for column in ("task", "benchmark", "language", "measure"):
        table.add_column(column, overflow="fold")
    for column in ("ours", "95 % interval", "chance", "paper", "difference"):
        table.add_column(column, justify="right")
    for line in board.lines:
        if line.ours is not None:
            unit = line.ours.unit
            table.add_row(
                line.task, f"{line.name.partition('.')[0]} {line.way}".strip(), line.language,
                line.metric.replace("_", " "),
                said(line.ours.value, unit), interval(line.ours), said(line.ours.chance, unit), paper(line),
                signed(line.difference, unit),
            )  # fmt: skip
    return table
