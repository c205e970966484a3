"""A cluster as people write it, `640xA100` or `8xH100-80GB`, and what its cards can do by their data sheets."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A kind of GPU."""

    name: str
    tflops: float
    """Dense products in bfloat16 per second, in 10^12."""
    gigabytes: int
    """Of memory, in 10^9 bytes."""


CARDS = {
    each.name: each
    for each in (
        Card("A100", 312.0, 80),
        Card("H100", 989.0, 80),
        Card("H200", 989.0, 141),
    )
}
"""Data sheets of NVIDIA's A100 80GB SXM, H100 SXM and H200 SXM."""
GPUS_PER_MACHINE = 8
"""Ours: as the usual servers have them; what fails together."""
_FORM = re.compile(r"(\d+)x([A-Za-z0-9]+?)(?:-(\d+)GB)?")


@dataclass(frozen=True)
class Gpus:
    """So many cards of one kind."""

    count: int
    card: Card

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.count}x{self.card.name}-{self.card.gigabytes}GB"


def gpus_of(written: str) -> Gpus:
    """Return the cluster that a text names, such as `640xA100` or `8xA100-40GB`.

    Raises:
        ValueError: It names none, or a card that is not known.
    """
    found = _FORM.fullmatch(written)
    if found is None or not int(found[1]):
        raise ValueError(f"--cluster {written!r} is no cluster; write how many cards of which kind, as 640xA100")
    card = CARDS.get(found[2].upper())
    if card is None:
        raise ValueError(f"--cluster {written}: the card {found[2]!r} is unknown; there are {', '.join(CARDS)}")
    memory = int(found[3]) if found[3] else card.gigabytes
    if not memory:
        raise ValueError(f"--cluster {written}: a card without memory trains nothing; name its gigabytes")
    return Gpus(int(found[1]), Card(card.name, card.tflops, memory))
