"""The next token of an answer: the likeliest, or one drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Choose = Callable[[Float[Tensor, "batch vocabulary"]], Int64[Tensor, " batch"]]
"""From logits to the next token of each row."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest; below 1 draws likely tokens more often, above 1 less.
        top_p: Draws among the fewest tokens whose probabilities add up to this (arXiv:1904.09751).
        seed: The same seed draws the same answer from the same logits; another device or precision rounds these
            otherwise.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no choice.

        Raises:
            ValueError: A value is out of its range.
        """
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature:g} is below 0 or endless; 0 takes the likeliest token")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p:g} is not above 0 and at most 1; 1 draws among all tokens")

    def chooser(self) -> Choose:
        """Return the choice of one answer; drawing goes on from token to token."""
        if self.temperature == 0:
            return lambda logits: logits.argmax(dim=-1)
        generator = torch.Generator().manual_seed(self.seed)
        temperature = max(self.temperature, torch.finfo(torch.float32).tiny)

        def draw(logits: Tensor) -> Tensor:
            logits = logits.float().cpu()
            # The likeliest is 0, so that however cold it is no token has an endless chance.
            scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
            chances = nucleus(scaled.softmax(dim=-1), self.top_p)
            return torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)

        return draw


def nucleus(chances: Float[Tensor, "batch vocabulary"], top_p: float) -> Float[Tensor, "batch vocabulary"]:
    """Return probabilities without those beyond the fewest that add up to `top_p`; one is always left."""
    if top_p == 1:
        return chances
    sorted_, order = chances.sort(dim=-1, descending=True)
    beyond = sorted_.cumsum(dim=-1) - sorted_ >= top_p
    kept = sorted_.masked_fill(beyond, 0.0)
    return torch.zeros_like(chances).scatter(-1, order, kept / kept.sum(dim=-1, keepdim=True))
