"""Tables of what downloads and trainings would cost, in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from pipelines.price_rows import PRICE_ROWS
from pipelines.pricing import Unknown
from pipelines.terminal import console
from stages.download_price import Price

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.training_price import Training


def show_prices(priced: Sequence[Price | Unknown]) -> None:
    """Print what is known of the lists, a column per source."""
    known = [each for each in priced if isinstance(each, Price)]
    if known:
        table = Table("whole list", *(each.source for each in known))
        for name, cell in PRICE_ROWS:
            table.add_row(name, *(cell(each) for each in known))
        console.print(table)
        rates = sorted({each.host_rate for each in known})
        limits = ", ".join("no limit per host" if not rate else f"{rate:g} requests/s per host" for rate in rates)
        console.print(
            f"with {known[0].workers} downloads at once and {limits}; further tries, redirects and robots.txt "
            "come on top of the requests",
            style="dim",
        )
    for each in priced:
        if isinstance(each, Unknown):
            console.print(f"{each.source}: {each.reason}", style="dim", highlight=False)


def show_trainings(found: "Sequence[Training]") -> None:
    """Print models and compute of the training stages, and GPU hours where there are GPUs."""
    from pipelines.training_price import HEAD, PEAK_TFLOPS, UTILISATION

    if not found:
        return
    table = Table(*HEAD, "GPUs")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in found:
        table.add_row(*each.cells(), f"{each.gpus or '–'}")
    console.print(table)
    cards = ", ".join(f"{card} {peak:g}" for card, peak in PEAK_TFLOPS.items())
    console.print(
        f"GPU hours at {UTILISATION:.0%} of bf16 peak ({cards} TFLOP/s), texts at full length; what is computed "
        "twice to save memory comes on top",
        style="dim",
        highlight=False,
    )
    for each in found:
        if each.flops_as_released:
            console.print(
                f"{each.stage}: {each.flops:.2e} FLOPs as computed here, {each.flops_as_released:.2e} in the four "
                "passes of the released code, each with its text and each looking at the picture anew",
                style="dim",
                highlight=False,
            )
