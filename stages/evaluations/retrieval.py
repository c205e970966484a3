"""Zero-shot retrieval of captions by pictures and of pictures by captions (arXiv:2312.14238, section 4.3).

After CLIP_benchmark, which made the paper's numbers: pictures are squashed to a square, ranked by cosine, and recall
at k is the share of queries that have a right candidate among the k best. InternVL-G sees with both its views
(`queries`); nothing is ranked again by the matching head.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.evaluation_metrics import Bools, Floats, Measure, bounds, chance_of_finding, interval, resampled_means
from stages.evaluation_report import Example
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.embedding import picture_vectors, text_vectors
from stages.evaluations.human_judgement import agreement
from stages.evaluations.ranking import Ints, Standings, standings
from stages.manifest import ManifestError

MEAN = "mean_recall"


class RetrievalSettings(BaseModel):
    """What pictures and videos can both be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: bool = Field(default=False, description="See with InternVL-G's queries too, the ensemble of both views.")
    ks: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1, description="How many candidates are looked at.")
    language: str = Field(default="en", description="Of the captions; names the measures.")
    metric: str = Field(
        default=MEAN,
        description="The measure that the paper reports; it comes first: mean_recall, or recall_at_10_image_to_text.",
    )
    same_words: bool = Field(
        default=False,
        description="A caption that several pictures have, word for word, is right for all of them.",
    )
    shown: int = Field(default=12, ge=0, description="Mistakes on the page, those nearest to being right.")

    @field_validator("ks")
    @classmethod
    def _positive(cls, ks: tuple[int, ...]) -> tuple[int, ...]:
        if min(ks) < 1 or len(set(ks)) < len(ks):
            raise ValueError(f"recall at {', '.join(map(str, ks))}: give numbers from 1 on, each once")
        return ks


class Settings(RetrievalSettings):
    """The paper's, where nothing else is given."""

    judgements: Path | None = Field(
        default=None, description="Parquet of what people think of pairs, with image, caption or caption_id, score."
    )
    judged_captions: Path | None = Field(
        default=None, description="Parquet with image and caption, where judged captions are of pictures not here."
    )


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
                f"{len(empty)} of {len(said)} examples of {benchmark} have no caption, {examples.key(empty[0])} among "
                "them; give a dataset with captions, or leave them out"
            )
        numbers = {text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(said)))}
        text = np.array([numbers[caption] for captions in said for caption in captions])
        return cls(tuple(numbers), text, np.repeat(np.arange(len(said)), [len(captions) for captions in said]))

    @property
    def own(self) -> Bools:
        """Return whether a picture has a wording, shape (pictures, texts)."""
        found = np.zeros((int(self.owner.max()) + 1, len(self.texts)), dtype=bool)
        found[self.owner, self.text] = True
        return found


def run(subject: Subject, examples: Examples, settings: BaseModel, benchmark: str) -> Outcome:
    """Rank captions for pictures and pictures for captions.

    Raises:
        ManifestError: The model is no InternVL-C or -G, or examples have no captions.
    """
    chosen = Settings.model_validate(settings)
    vectors = picture_vectors(subject, examples, crop=False, queries=chosen.queries)
    found = rank(subject, examples, vectors, chosen, benchmark)
    if chosen.judgements is not None:
        measures, facts = agreement(
            subject, examples, vectors, chosen.judgements, chosen.judged_captions, benchmark, chosen.language
        )
        found.measures += measures
        found.facts["judgements"] = facts
    return found


def rank(
    subject: Subject,
    examples: Examples,
    vectors: Floats,
    settings: RetrievalSettings,
    benchmark: str,
    *,
    dual_softmax: bool = False,
) -> Outcome:
    """Return recall in both directions, with the mistakes that were nearest to being right.

    Args:
        subject: The model.
        examples: What was looked at, with their captions.
        vectors: Of unit length, shape (examples, embed_dim).
        settings: What is measured.
        benchmark: Its name.
        dual_softmax: See `standings`.
    """
    said = Said.of(examples, benchmark)
    texts = text_vectors(subject, examples, said.texts)
    own, counts = said.own, np.bincount(said.owner)
    # A caption that reads like one's own cannot be told from it, so it is no wrong answer to a picture.
    to_text = standings(
        vectors,
        texts,
        lambda rows: own[rows],
        copies=np.bincount(said.text),
        dual_softmax=dual_softmax,
    )
    places = np.arange(len(examples))

    def owners(rows: Ints) -> Bools:
        return own.T[said.text[rows]] if settings.same_words else said.owner[rows, None] == places

    to_image = standings(texts[said.text], vectors, owners, dual_softmax=dual_softmax)
    found = _recalls(benchmark, settings, said, own, to_text, to_image, counts)
    return Outcome(
        measures=[row for row, _ in found],
        scores={row.name: values.tolist() for row, values in found},
        keys=[examples.key(number) for number in range(len(examples))],
        examples=_mistakes(examples, said, to_text, settings.shown),
        notes=_notes(said, settings),
        facts={
            "settings": settings.model_dump(mode="json"),
            "captions": len(said.text),
            "wordings": len(said.texts),
            "dual_softmax": dual_softmax,
        },
    )


def _recalls(
    benchmark: str,
    settings: RetrievalSettings,
    said: Said,
    own: Bools,
    to_text: Standings,
    to_image: Standings,
    counts: Ints,
) -> list[tuple[Measure, Floats]]:
    """Return all measures, each with one value per picture of which it is the mean, the paper's first."""
    right_texts = own @ np.bincount(said.text, minlength=len(said.texts))
    right_images = own.sum(axis=0)[said.text] if settings.same_words else np.ones(len(said.text))
    found: dict[str, tuple[Measure, Floats]] = {}
    for direction in ("image_to_text", "text_to_image"):
        for k in settings.ks:
            name = f"recall_at_{k}_{direction}"
            if direction == "image_to_text":
                hits, queries = (to_text.before < k).astype(float), np.ones(len(counts))
                chance = chance_of_finding(right_texts, len(said.text), k)
            else:
                hits = np.bincount(said.owner, weights=to_image.before < k, minlength=len(counts))
                queries = counts.astype(float)
                chance = chance_of_finding(right_images, len(counts), k)
            row = share(benchmark, settings.language, name, hits, queries, chance)
            found[name] = row, hits * len(counts) / queries.sum()
    rows, values = zip(*found.values(), strict=True)
    mean = np.mean(values, axis=0)
    found[MEAN] = _mean_row(rows, mean), mean
    if settings.metric not in found:
        raise ManifestError(
            f"{benchmark} has no measure {settings.metric!r} with recall at {', '.join(map(str, settings.ks))}; set "
            f"`metric` to one of {', '.join(found)}"
        )
    return [found.pop(settings.metric), *found.values()]


def share(split: str, language: str, name: str, hits: Floats, queries: Floats, chance: float) -> Measure:
    """Return the share of queries that hit; the bootstrap draws pictures, each with all of its captions.

    Captions of one picture are found or missed together, so drawing them one by one would promise too much.
    """
    total = queries.sum()
    value = float(hits.sum() / total)
    if value in (0.0, 1.0):
        low, high = interval(np.full(len(hits), value))
    else:
        low, high = bounds(resampled_means(hits) / resampled_means(queries))
    return Measure(split, language, name, value, int(total), low, high, chance=chance)


def _mean_row(rows: Sequence[Measure], values: Floats) -> Measure:
    first = rows[0]
    # Of pictures with unequally many captions the values can pass 1, their mean cannot.
    low, high = interval(values) if 0 < values.mean() < 1 else interval(np.full(len(values), round(values.mean())))
    chance = float(np.mean([row.chance for row in rows]))
    value = float(np.mean([row.value for row in rows]))
    return Measure(first.split, first.language, MEAN, value, len(values), low, min(high, 1.0), chance=chance)


def _mistakes(examples: Examples, said: Said, to_text: Standings, count: int) -> list[Example]:
    wrong = np.flatnonzero(to_text.margins >= 0)
    near = sorted(map(int, wrong), key=lambda number: (float(to_text.margins[number]), examples.key(number)))
    found = []
    for number in near[:count]:
        lines = [
            ("own caption", next(iter(examples.captions(number)))),
            ("nearest caption", said.texts[to_text.rivals[number]]),
            ("nearer by", f"{to_text.margins[number]:.4f}"),
            ("example", examples.key(number)),
        ]
        found.append(Example("nearest mistakes", examples.pictures(number)[0], lines, right=False))
    return found


def _notes(said: Said, settings: RetrievalSettings) -> list[str]:
    shared = int((np.bincount(said.text) > 1).sum())
    if not shared:
        return []
    also = "their pictures are right for each other's captions" if settings.same_words else "only the picture that a "
    tail = "" if settings.same_words else "caption was written for is right, as in CLIP_benchmark"
    return [f"{shared} captions occur more than once, word for word; {also}{tail}."]
