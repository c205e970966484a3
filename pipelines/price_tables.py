"""Tables of what downloads and trainings would cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.price_rows import PRICE_ROWS
from pipelines.pricing import Unknown
from pipelines.sections import Section
from stages.download_price import Price

if TYPE_CHECKING:  # counts models, and so imports torch
    from pipelines.training_price import Training


def price_sections(priced: Sequence[Price | Unknown]) -> list[Section]:
    """Return what is known of the lists, a column per source, and why the others cannot be priced."""
    known = [each for each in priced if isinstance(each, Price)]
    notes = tuple(f"{each.source}: {each.reason}" for each in priced if isinstance(each, Unknown))
    if not known:
        return [Section("downloads", notes=notes)] if notes else []
    rows = tuple((name, *(cell(each) for each in known)) for name, cell in PRICE_ROWS)
    rates = sorted({each.host_rate for each in known})
    limits = ", ".join("no limit per host" if not rate else f"{rate:g} requests/s per host" for rate in rates)
    told = (
        f"with {known[0].workers} downloads at once and {limits}; further tries, redirects and robots.txt come on "
        "top of the requests"
    )
    return [Section("downloads", ("whole list", *(each.source for each in known)), rows, (told, *notes))]


def training_section(found: "Sequence[Training]", *, hours: bool) -> list[Section]:
    """Return models and compute of the training stages.

    Args:
        found: The trainings; without any there is no table.
        hours: Whether GPU hours at the assumed share are shown: where a cluster is named its own table has them.
    """
    from pipelines.training_price import HEAD, PEAK_TFLOPS, UTILISATION

    if not found:
        return []
    shown = len(HEAD) if hours else len(HEAD) - len(PEAK_TFLOPS)
    notes = ["FLOPs at the full length of texts; what is computed twice to save memory comes on top"]
    if hours:
        cards = ", ".join(f"{card} {peak:g}" for card, peak in PEAK_TFLOPS.items())
        notes.append(f"GPU hours at {UTILISATION:.0%} of bf16 peak ({cards} TFLOP/s), assumed")
    notes += [
        f"{each.stage}: {each.flops:.2e} FLOPs as computed here, {each.flops_as_released:.2e} in the four passes of "
        "the released code, each with its text and each looking at the picture anew"
        for each in found
        if each.flops_as_released
    ]
    rows = tuple((*each.cells()[:shown], f"{each.gpus or '–'}") for each in found)
    return [Section("trainings", (*HEAD[:shown], "GPUs"), rows, tuple(notes))]
