"""Captions as what is ranked and what ranks, and recall in both directions as rows of a report."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from stages.evaluation_metrics import Bools, Floats, Measure, chance_of_finding, interval, ratio_measure
from stages.evaluations.base import Examples
from stages.evaluations.ranking import Ints, Standings
from stages.manifest import ManifestError

MEAN = "mean_recall"
Row = tuple[Measure, Floats]
"""A measure, and one value per example of which it is the mean."""


class Said(NamedTuple):
    """All captions of all examples."""

    texts: tuple[str, ...]
    """Each wording once."""
    text: Ints
    """Which of them each caption is, shape (captions,)."""
    owner: Ints
    """Whose caption it is, same shape."""

    @classmethod
    def of(cls, examples: Examples, benchmark: str) -> "Said":
        """Read them.

        Raises:
            ManifestError: An example has none, or there is one example only.
        """
        if len(examples) < 2:
            raise ManifestError(f"{benchmark} has {len(examples)} examples, and two at least are told apart")
        said = [list(examples.captions(number)) for number in range(len(examples))]
        if empty := [number for number, captions in enumerate(said) if not captions]:
            raise ManifestError(
                f"{len(empty)} of {len(said)} examples of {benchmark} have no caption, {examples.key(empty[0])} "
                "among them; give a dataset with captions, or leave them out"
            )
        numbers = {text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(said)))}
        text = np.array([numbers[caption] for captions in said for caption in captions])
        return cls(tuple(numbers), text, np.repeat(np.arange(len(said)), [len(captions) for captions in said]))

    @property
    def copies(self) -> Ints:
        """Return how often each wording is said, shape (texts,)."""
        return np.bincount(self.text)

    @property
    def counts(self) -> Ints:
        """Return how many captions each example has, shape (examples,)."""
        return np.bincount(self.owner)

    def wordings(self) -> list[Ints]:
        """Return each example's wordings, each once."""
        starts = np.cumsum(self.counts)[:-1]
        return [np.unique(numbers) for numbers in np.split(self.text, starts)]

    def speakers(self) -> list[Ints]:
        """Return of which examples each wording is, each once."""
        order = np.argsort(self.text, kind="stable")
        starts = np.cumsum(self.copies)[:-1]
        return [np.unique(numbers) for numbers in np.split(self.owner[order], starts)]


def marked(lists: Sequence[Ints], width: int) -> Bools:
    """Return a table with a row for each list, true at the places that it names, shape (lists, width)."""
    found = np.zeros((len(lists), width), dtype=bool)
    for row, places in zip(found, lists, strict=True):
        row[places] = True
    return found


def recalls(
    benchmark: str,
    language: str,
    ks: Sequence[int],
    said: Said,
    to_text: Standings,
    to_image: Standings,
    right_images: Ints,
    shown: str = "image",
) -> dict[str, Row]:
    """Return recall at each k in both directions, and the mean of all.

    Args:
        benchmark: Its name.
        language: Of the captions.
        ks: How many candidates are looked at.
        said: All captions.
        to_text: Where each example's own captions stand.
        to_image: Where each caption's example stands.
        right_images: How many examples are right for each caption, shape (captions,).
        shown: What an example is; the measures are called after it.
    """
    copies, counts = said.copies, said.counts
    right_texts = [int(copies[numbers].sum()) for numbers in said.wordings()]
    found: dict[str, Row] = {}
    for k in ks:
        hits = (to_text.before < k).astype(float)
        chance = chance_of_finding(right_texts, len(said.text), k)
        name = f"recall_at_{k}_{shown}_to_text"
        found[name] = _share(benchmark, language, name, hits, np.ones(len(hits)), chance)
    for k in ks:
        hits = np.bincount(said.owner, weights=to_image.before < k).astype(float)
        chance = chance_of_finding(right_images, len(counts), k)
        name = f"recall_at_{k}_text_to_{shown}"
        found[name] = _share(benchmark, language, name, hits, counts.astype(float), chance)
    found[MEAN] = _mean_of(list(found.values()))
    return found


def _share(split: str, language: str, name: str, hits: Floats, queries: Floats, chance: float) -> Row:
    """Return the share of queries that hit; the bootstrap draws pictures, each with all of its captions.

    Captions of one picture are found or missed together, so drawing them one by one would promise too much.
    """
    row = ratio_measure(split, language, name, hits, queries, chance=chance)
    return row, hits * len(hits) / queries.sum()


def _mean_of(rows: Sequence[Row]) -> Row:
    first = rows[0][0]
    values = np.mean([each for _, each in rows], axis=0)
    # With unequally many captions a picture's value can pass 1; the mean of all cannot.
    value = min(1.0, float(values.mean()))
    low, high = interval(np.full(len(values), value) if value in (0.0, 1.0) else values)
    chance = float(np.mean([row.chance for row, _ in rows]))
    return Measure(first.split, first.language, MEAN, value, len(values), low, min(high, 1.0), chance=chance), values
