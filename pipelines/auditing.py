"""The command that proves what a training run read."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import clear_errors, console
from stages.manifest import load
from stages.ref import Ref

if TYPE_CHECKING:
    from stages.training.audit import Audit

SHOWN = 5


@app.command("audit-order")
def audit_order(
    checkpoint: Annotated[str, typer.Argument(help="A trained checkpoint, such as checkpoints/contrastive@version.")],
) -> None:
    """Prove that a run read each sample exactly once per epoch; exit 1 where it did not."""
    with clear_errors():
        from stages.training.audit import audit_run

        store = Store(settings().store_root)
        found = audit_run(store, load(store, Ref.model_validate(checkpoint)))
        _tell(found)
        if not found.sound:
            raise typer.Exit(1)


def _tell(found: "Audit") -> None:
    table = Table("source", title=f"{found.steps:,} steps", title_justify="left")
    for each in ("samples", "read", "whole epochs", "twice in an epoch", "missing in an epoch"):
        table.add_column(each, justify="right")
    for source in found.sources:
        numbers = (source.samples, source.read, source.epochs, len(source.repeated), len(source.missing))
        table.add_row(source.name, *(f"{number:,}" for number in numbers))
    console.print(table)
    for source in found.sources:
        for what, rows in (("twice", source.repeated), ("not at all", source.missing)):
            if rows:
                named = ", ".join(map(str, rows[:SHOWN]))
                console.print(f"{source.name}: samples {named} came {what} in an epoch", highlight=False)
    if found.differs_at is not None:
        said = f"from step {found.differs_at} on the run read other samples than its order says"
    elif found.sound:
        said = (
            f"each sample came once per epoch; the run says the same of {found.compared:,} of {found.steps:,} steps"
        )
    else:
        said = "the order is not sound"
    console.print(said, highlight=False)
    if found.left_out:
        console.print(f"the guard left out {found.left_out:,} samples where the run went back", highlight=False)
