"""The command that removes what killed runs left behind."""

import re
import shutil
from collections import defaultdict
from typing import Annotated

import typer
from rich.table import Table

from infra.scratch import left_behind
from infra.settings import settings
from infra.storage import Store
from pipelines.names import RecipeName
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.sweep import Leftover, find_leftovers, remove_leftovers

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command()
def sweep(
    artifact: Annotated[
        str, typer.Option("--artifact", help="Only below this name, such as pool/coyo, or pool/coyo@version.")
    ] = "",
    recipe: Annotated[
        RecipeName | None, typer.Option("--recipe", help="Only what this recipe made under its own name.")
    ] = None,
    grace: Annotated[
        str,
        typer.Option("--grace", help="Leave alone what is younger: it may belong to a running job. 30m, 24h, 7d."),
    ] = "24h",
    apply: Annotated[bool, typer.Option("--apply", help="Remove it; without, it is only listed.")] = False,
) -> None:
    """List what killed runs left in the store, and remove it with --apply; exit 1 where something is left."""
    with clear_errors():
        store, seconds = Store(settings().store_root), _grace(grace)
        name, _, version = artifact.partition("@")
        found = find_leftovers(store, seconds, name, version or (str(recipe) if recipe else ""))
        for sentence in found.spared:
            console.print(f"[bold red]spared[/] {sentence}", highlight=False, soft_wrap=True)
        gone = remove_leftovers(store, found.leftovers) if apply else found.leftovers
        _tell(gone, "removed" if apply else "left over")
        scratch = 0
        # Scratch folders are this machine's, not an artifact's: they go with a sweep of everything.
        for folder, size in left_behind(seconds) if not (artifact or recipe) else ():
            console.print(f"{'removed' if apply else 'left over'}  {folder}  {_bytes(size)}", highlight=False)
            scratch += size
            if apply:
                shutil.rmtree(folder)
        total = sum(each.entry.bytes for each in gone) + scratch
        if apply:
            console.print(f"{_bytes(total)} freed in {store.root}", highlight=False)
            left = len(gone) < len(found.leftovers)
        elif total or gone:
            console.print(f"{_bytes(total)} to free in {store.root}: internvl sweep --apply", highlight=False)
            left = True
        else:
            console.print(f"nothing older than {grace} is left over in {store.root}", highlight=False)
            left = False
        if left or found.spared:
            raise typer.Exit(1)


def _grace(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise Refusal(f"--grace {text!r} is no duration; write it as 30m, 24h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _tell(leftovers: list[Leftover], verb: str) -> None:
    kinds: dict[str, list[Leftover]] = defaultdict(list)
    for each in leftovers:
        kinds[str(each.kind)].append(each)
        upload = f" upload {each.entry.upload}" if each.entry.upload else ""
        console.print(
            f"{verb}  {each.entry.key}{upload}  {_bytes(each.entry.bytes)}, {each.age_seconds / 3600:.1f} h old: "
            f"{each.kind}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if kinds:
        table = Table("why", "files", "bytes")
        for kind, some in kinds.items():
            table.add_row(kind, f"{len(some):,}", _bytes(sum(each.entry.bytes for each in some)))
        console.print(table)


def _bytes(number: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= one:
            return f"{number / one:,.1f} {unit}"
    return f"{number} bytes"
