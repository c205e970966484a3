"""The command that computes a training step again, to see which samples and layers a spike came from."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import clear_errors, console
from stages.ref import Ref

if TYPE_CHECKING:
    from stages.training.explaining import Explanation

LAYERS_SHOWN = 12


@app.command(name="explain-spike")
def explain_spike(
    ref: Annotated[str, typer.Argument(help="A checkpoint that trains or trained here, name@version.")],
    step: Annotated[int, typer.Option("--step", min=1, help="Which step, as messages and the history count them.")],
    shown: Annotated[int, typer.Option("--samples", min=1, help="How many samples to print, the worst first.")] = 16,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder that gets these samples' pictures.")
    ] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option("--micro-batch-size", min=1, help="Samples in the model at once; all if unsaid.")
    ] = None,
) -> None:
    """Compute one training step again on this machine: losses by sample, gradients by layer, what is not finite."""
    with clear_errors():
        from stages.training.explaining import explain

        store = Store(settings().store_root)
        with tempfile.TemporaryDirectory(prefix="internvl-explain-") as scratch:
            wanted = Ref.model_validate(ref)
            found = explain(store, wanted, step, Path(scratch), shown=shown, micro_batch_size=micro_batch_size)
        _tell(ref, found)
        if pictures is not None:
            written = _write(found, pictures)
            console.print(f"{written} pictures are in {pictures}", highlight=False, markup=False)


def _tell(ref: str, found: "Explanation") -> None:
    head = f"{ref}, step {found.step} (batch {found.batch} of its order), computed with {found.weights}"
    console.print(head, highlight=False, markup=False)
    console.print(", ".join(f"{name} {value:.6g}" for name, value in found.terms.items()), highlight=False)
    console.print(found.culprits, highlight=False, markup=False)
    layers = sorted(found.norms.items(), key=lambda pair: (pair[1] == pair[1], -pair[1]))
    table = Table("layer", "gradient norm", title="largest gradients", title_justify="left")
    for name, norm in layers[:LAYERS_SHOWN]:
        table.add_row(escape(name), f"{norm:.4g}")
    console.print(table)
    table = Table("loss", "uid", "source", "language", "caption", title="highest losses", title_justify="left")
    for each in found.samples:
        loss = "not told" if each.loss is None else f"{each.loss:.4g}"
        facts = each.facts
        table.add_row(loss, *map(escape, (facts.uid, facts.source, facts.language or "", each.caption[:120])))
    console.print(table)


def _write(found: "Explanation", folder: Path) -> int:
    """Write the pictures, numbered from the highest loss down; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for place, each in enumerate(found.samples, 1):
        if each.picture is not None:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", each.facts.uid)[:64]
            (folder / f"{place:03d}-{name}.jpg").write_bytes(each.picture)
            written += 1
    return written
