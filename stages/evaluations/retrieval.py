"""Zero-shot retrieval of captions by pictures and of pictures by captions (arXiv:2312.14238, section 4.3).

After CLIP_benchmark, which made the paper's numbers: pictures are squashed to a square, ranked by cosine, and recall
at k is the share of queries that have a right candidate among the k best. InternVL-G sees with both its views
(`queries`); nothing is ranked again by the matching head.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stages.evaluation_metrics import Floats
from stages.evaluation_report import Example
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.embedding import picture_vectors, text_vectors
from stages.evaluations.human_judgement import agreement, digest_of_tables
from stages.evaluations.ranking import Standings, standings
from stages.evaluations.recalls import MEAN, Said, marked, recalls
from stages.manifest import ManifestError


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
    tables: str = Field(
        default="", description="Digest of both tables, read off them: other judgements are another result."
    )

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("judgements"):
            return given
        try:
            now = digest_of_tables(Path(each) for each in (given["judgements"], given.get("judged_captions")) if each)
        except OSError:
            return given  # who opens the table tells it
        if given.get("tables") not in (None, "", now):
            raise ValueError("the tables of judgements are not those that were chosen; run the command again")
        return {**given, "tables": now}


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
    shown: str = "image",
) -> Outcome:
    """Return recall in both directions, with the mistakes that were nearest to being right.

    Args:
        subject: The model.
        examples: What was looked at, with their captions.
        vectors: Of unit length, shape (examples, embed_dim).
        settings: What is measured.
        benchmark: Its name.
        dual_softmax: See `standings`.
        shown: What an example is; the measures are called after it.
    """
    said = Said.of(examples, benchmark)
    texts = text_vectors(subject, examples, said.texts)
    wordings, speakers = said.wordings(), said.speakers()
    # A caption that reads like one's own cannot be told from it, so it is no wrong answer to a picture.
    to_text = standings(
        vectors,
        texts,
        lambda rows: marked([wordings[row] for row in rows], len(texts)),
        copies=said.copies,
        dual_softmax=dual_softmax,
    )
    right = [speakers[text] for text in said.text] if settings.same_words else list(said.owner[:, None])
    to_image = standings(
        texts[said.text],
        vectors,
        lambda rows: marked([right[row] for row in rows], len(examples)),
        dual_softmax=dual_softmax,
    )
    counts = np.array([len(each) for each in right])
    found = recalls(benchmark, settings.language, settings.ks, said, to_text, to_image, counts, shown)
    if settings.metric not in found:
        raise ManifestError(
            f"{benchmark} has no measure {settings.metric!r} with recall at {', '.join(map(str, settings.ks))}; set "
            f"`metric` to one of {', '.join(found)}"
        )
    ordered = [found.pop(settings.metric), *found.values()]
    return Outcome(
        measures=[row for row, _ in ordered],
        scores={row.name: values.tolist() for row, values in ordered},
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
    shared = int((said.copies > 1).sum())
    if not shared:
        return []
    rule = (
        "all their pictures are right" if settings.same_words else "as in CLIP_benchmark, their own picture is right"
    )
    return [f"{shared} captions occur more than once, word for word; to find a picture by them, {rule}."]
