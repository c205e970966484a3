"""What a model writes about examples, kept piece by piece: a row that is stopped goes on with what stands."""

from collections.abc import Callable, Sequence

from stages.evaluations.base import Examples, Subject
from stages.manifest import digest_of

KEPT_TOGETHER = 64
"""Texts that are kept in one go: what is written behind the last of them is lost when a row is stopped."""
Texts = list[str | None]
"""None where nothing could be written."""


def written(
    subject: Subject,
    examples: Examples,
    asked: Sequence[object],
    settings: dict[str, object],
    batch_size: int,
    write: Callable[[range], Texts],
    told: Callable[[int], None],
) -> Texts:
    """Return what a model writes to everything that it is asked, in order.

    A piece is known by what is asked in it, the settings, the data and the model, so that a change of what is done
    with the texts keeps them. Pieces hold whole batches: a model that goes on computes the batches that it would
    have computed.

    Args:
        subject: The model.
        examples: What it is asked about.
        asked: All that decides each text besides the settings: plain values.
        settings: What decides all texts.
        batch_size: How many are written at once.
        write: Writes some of them, by number.
        told: Hears how many are written.
    """
    found: Texts = []
    piece = batch_size * max(1, KEPT_TOGETHER // batch_size)
    for start in range(0, len(asked), piece):
        stop = min(start + piece, len(asked))

        def make(start: int = start, stop: int = stop) -> Texts:
            made: Texts = []
            for first in range(start, stop, batch_size):
                told(first)
                made += write(range(first, min(first + batch_size, stop)))
            return made

        what = digest_of({"asked": list(asked[start:stop]), "settings": settings, "batch_size": batch_size})
        found += subject.written(f"texts {what}", examples, make)
    told(len(asked))
    return found
