"""The command that counts a model: parameters, FLOPs and memory, its weights left where they are."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from infra.settings import settings
from infra.storage import Store
from pipelines.named_models import find_model
from pipelines.options import app
from pipelines.terminal import clear_errors, console

if TYPE_CHECKING:
    from models.composition import Size
    from models.cost import Work
    from models.counting import Shapes


@app.command()
def inspect(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A published size, an artifact name@version, or a folder; lists the sizes when left out."
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Side of a picture in pixels; the trained one if unsaid."),
    ] = None,
    text_tokens: Annotated[
        int | None,
        typer.Option("--text-tokens", min=1, help="Length of a text; if unsaid the towers' own, 128 for a chat."),
    ] = None,
    tiles: Annotated[int, typer.Option("--tiles", min=1, help="Tiles of a picture in a chat.")] = 1,
) -> None:
    """Count a model: parameters by part, FLOPs per picture, token and pair, memory by precision."""
    with clear_errors():
        from models.cost import forward_work
        from models.counting import shapes

        if model is None:
            console.print(_sizes())
            return
        size, stored = find_model(model, Store(settings().store_root))
        work = forward_work(size, image_size=image_size, text_tokens=text_tokens, tiles=tiles)
        counted = shapes(size)
        _describe(size)
        console.print(_parameters(counted))
        if stored is not None:
            console.print(_beside(counted, stored), highlight=False, markup=False)
        console.print(_compute(work))
        console.print(_memory(size, counted))


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(first, title=title, title_justify="left", caption_justify="left")
    for each in others:
        table.add_column(each, justify="right")
    return table


def _sizes() -> Table:
    from models.counting import count, shapes
    from models.sizes import SIZES

    table = _table("Published sizes", "model", "kind", "parameters")
    for size in SIZES.values():
        table.add_row(size.name, size.kind, f"{count(shapes(size)):,}")
    return table


def _describe(size: "Size") -> None:
    facts: list[str] = [size.kind]
    if size.language is not None and size.language.source:
        facts.append(f"language model {size.language.source}")
    if size.image_tokens:
        facts.append(f"{size.image_tokens} tokens per tile")
    if not size.released:
        facts.append("weights never released")
    if size.note:
        facts.append(size.note)
    console.print(f"{size.name}: {', '.join(facts)}", highlight=False, markup=False)


def _parameters(counted: "Shapes") -> Table:
    from models.counting import count, parts

    whole = count(counted)
    table = _table(f"Parameters in {len(counted):,} tensors", "part", "parameters", "share")
    for part, number in parts(counted).items():
        table.add_row(part, f"{number:,}", f"{number / whole:.2%}")
    table.add_section()
    table.add_row("all", f"{whole:,}", "")
    return table


def _beside(counted: "Shapes", stored: "Shapes") -> str:
    """Say how what is stored differs from what the configuration asks for."""
    from models.counting import count

    said = f"stored: {count(stored):,} parameters in {len(stored):,} tensors"
    if stored == counted:
        return f"{said}, just these"
    if not stored.keys() & counted.keys():
        return f"{said}, under names of another layout"
    differences = {
        "not counted": sorted(stored.keys() - counted.keys()),
        "missing": sorted(counted.keys() - stored.keys()),
        "of another shape": sorted(name for name in stored.keys() & counted if stored[name] != counted[name]),
    }
    for what, names in differences.items():
        if names:
            said += f"; {what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return said


def _compute(work: "list[Work]") -> Table:
    table = _table(
        "Compute in GFLOPs, two per multiply-accumulate", "what", "GMAC", "forward", "training", "with recompute"
    )
    for each in work:
        cells = [f"{_rounded(each.macs * times)}" for times in (1, 2, 6, 8)]
        table.add_row(each.label, *(cells if each.trained else [*cells[:2], "", ""]))
    return table


def _rounded(number: int) -> str:
    giga = number / 1e9
    return f"{giga:,.1f}" if giga >= 1 else f"{giga:.3g}"


def _memory(size: "Size", counted: "Shapes") -> Table:
    from models.counting import STAGE_2, count, parts
    from models.memory import PRECISIONS, checkpointed_bytes, memory

    whole, by_part = count(counted), parts(counted)
    rows = [(str(each), memory(whole, each)) for each in PRECISIONS]
    if size.kind == "generative":
        new = sum(by_part.get(part, 0) for part in STAGE_2)
        rows.append((f"bfloat16 mixed, {new:,} trained", memory(whole, "bfloat16 mixed", new)))
    if size.kind == "chat":
        rest = whole - sum(number for part, number in by_part.items() if part.startswith("vision"))
        rows.append(("bfloat16 mixed, vision frozen", memory(whole, "bfloat16 mixed", rest)))
    table = _table("Memory without activations", "precision", "weights", "gradients", "AdamW", "training")
    for label, need in rows:
        table.add_row(label, *map(_bytes, (need.weights, need.gradients, need.adamw, need.training)))
    if size.vision is not None:
        kept = checkpointed_bytes(size.vision, size.vision.grid**2 + 1)
        table.caption = f"and per picture, where each block keeps its input alone in bfloat16: {_bytes(kept)}"
    return table


def _bytes(number: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if number >= one:
            return f"{number / one:,.2f} {unit}"
    return f"{number / 1e3:,.1f} kB"
