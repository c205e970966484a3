"""Whether a model finds those captions fitting that people find fitting: rank correlation over judged pairs.

Flickr8k's judgements (Hodosh et al., 2013) are the usual table: three experts' marks from 1 to 4, and the share of
yes of a crowd. Any table with pictures, captions and scores will do.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import kendalltau, spearmanr  # type: ignore[import-untyped]

from stages.batches import generator_of
from stages.evaluation_metrics import Floats, Measure, bounds
from stages.evaluations.base import Examples, Subject
from stages.evaluations.classifying import DIGITS
from stages.evaluations.embedding import text_vectors
from stages.manifest import ManifestError, digest_of

RESAMPLES = 200
"""A correlation of thousands of pairs takes milliseconds; so many bound an interval well enough."""
CORRELATIONS: Mapping[str, tuple[str, Callable[[Floats, Floats], float]]] = {
    "kendall_tau_b": ("tau-b", lambda left, right: float(kendalltau(left, right, variant="b").statistic)),
    "kendall_tau_c": ("tau-c", lambda left, right: float(kendalltau(left, right, variant="c").statistic)),
    "spearman": ("rho", lambda left, right: float(spearmanr(left, right).statistic)),
}
"""Units and functions; CLIPScore (arXiv:2104.08718) reports tau-c for the experts and tau-b for the crowd."""


def digest_of_tables(paths: Iterable[Path]) -> str:
    """Return a SHA-256 over the bytes of tables, in their order.

    Raises:
        OSError: One cannot be read.
    """
    return digest_of([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])


class Judged(NamedTuple):
    """Pairs that people judged and the data has; columns of equal length."""

    examples: list[int]
    captions: list[str]
    scores: list[float]
    sources: list[str]


def agreement(
    subject: Subject,
    examples: Examples,
    vectors: Floats,
    judgements: Path,
    captions: Path | None,
    benchmark: str,
    language: str,
) -> tuple[list[Measure], dict[str, Any]]:
    """Return rank correlations of cosines with what people think, per source of judgements, and facts about them.

    Pictures that the data lacks are left out, and the facts say how many pairs that are.

    Args:
        subject: The model.
        examples: The pictures; a key ends with the name of its picture's file.
        vectors: Of unit length, shape (examples, embed_dim).
        judgements: Parquet with `image` and `score`, and `caption` or `caption_id` (`name.jpg#2`: the third caption
            of that picture); `source` where there are several kinds.
        captions: Parquet with `image` and `caption`, those of a picture in their order; else the examples' own count.
        benchmark: Its name.
        language: Of the captions.

    Raises:
        ManifestError: A table cannot be read, lacks a column, or has no pair of these pictures.
    """
    table = _table(judgements, ("image", "score"))
    pairs = _pairs(table, examples, _captions(examples, captions), judgements)
    texts = list(dict.fromkeys(pairs.captions))
    numbers = {text: number for number, text in enumerate(texts)}
    text = text_vectors(subject, examples, texts)[[numbers[caption] for caption in pairs.captions]]
    cosines = np.round((vectors[pairs.examples] * text).sum(axis=1), DIGITS)
    measures, kept = [], {}
    for source in sorted(set(pairs.sources)):
        rows = np.flatnonzero([each == source for each in pairs.sources])
        kept[source] = len(rows)
        owners, scores = np.array(pairs.examples)[rows], np.array(pairs.scores)[rows]
        ending = f"_{source.replace('-', '_')}" if source else ""
        measures += correlations(benchmark, language, ending, owners, cosines[rows], scores)
    facts = {
        "table": judgements.name,
        "sha256": hashlib.sha256(judgements.read_bytes()).hexdigest(),
        "pairs": table.num_rows,
        "judged": kept,
        "left_out": table.num_rows - len(pairs.examples),
    }
    return measures, facts


def correlations(
    split: str, language: str, ending: str, owners: np.ndarray, cosines: Floats, scores: Floats
) -> list[Measure]:
    """Return each rank correlation as a row; the bootstrap draws pictures, each with all of its pairs.

    Args:
        split: The benchmark.
        language: Of the captions.
        ending: Of the measures' names.
        owners: Whose picture a pair is about, shape (pairs,).
        cosines: What the model thinks, same shape.
        scores: What people think, same shape.
    """
    pictures, whose = np.unique(owners, return_inverse=True)
    drawn = generator_of("judgements", len(pictures)).multinomial(
        len(pictures), np.full(len(pictures), 1 / len(pictures)), size=RESAMPLES
    )
    found = []
    for name, (unit, correlate) in CORRELATIONS.items():
        resampled = []
        for counts in drawn:
            rows = np.repeat(np.arange(len(whose)), counts[whose])
            resampled.append(_correlation(correlate, cosines[rows], scores[rows]))
        low, high = bounds(np.array(resampled))
        value = _correlation(correlate, cosines, scores)
        found.append(Measure(split, language, name + ending, value, len(owners), low, high, chance=0.0, unit=unit))
    return found


def _correlation(correlate: Callable[[Floats, Floats], float], cosines: Floats, scores: Floats) -> float:
    """Return a correlation; what is all equal has no order, so it agrees with nothing."""
    return 0.0 if np.ptp(cosines) == 0 or np.ptp(scores) == 0 else correlate(cosines, scores)


def _table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ManifestError(f"{path} cannot be read as parquet ({error}); name a table of judgements") from error
    if missing := [name for name in columns if name not in found.column_names]:
        raise ManifestError(
            f"{path} has no column {missing[0]!r}, only {', '.join(found.column_names)}; name a table that has "
            f"{' and '.join(columns)}"
        )
    return found


def _captions(examples: Examples, path: Path | None) -> dict[str, list[str]]:
    """Return all captions by the name of their picture."""
    found: dict[str, list[str]] = {}
    if path is None:
        for number in range(len(examples)):
            for name in _names(examples.key(number)):
                found[name] = list(examples.captions(number))
        return found
    table = _table(path, ("image", "caption"))
    for image, caption in zip(table["image"].to_pylist(), table["caption"].to_pylist(), strict=True):
        if image is not None:
            found.setdefault(Path(image).stem, []).append(caption)
    return found


def _names(key: str) -> tuple[str, str]:
    """Return what a picture may be called in a table: its name, and its name without its dataset's (`f8k_`)."""
    stem = Path(key).stem
    return stem, stem.partition("_")[2] or stem


def _pairs(table: pa.Table, examples: Examples, captions: Mapping[str, list[str]], path: Path) -> Judged:
    numbers = {name: number for number in range(len(examples)) for name in _names(examples.key(number))}
    found = Judged([], [], [], [])
    for row in table.to_pylist():
        number = numbers.get(Path(row["image"]).stem)
        caption = row.get("caption") or _by_id(row.get("caption_id") or "", captions)
        if number is None or not caption or row["score"] is None:
            continue
        found.examples.append(number)
        found.captions.append(caption)
        found.scores.append(_score(row, path))
        found.sources.append(row.get("source") or "")
    if len(set(found.examples)) < 2:
        raise ManifestError(
            f"{path} judges {len(set(found.examples))} of the {len(examples)} pictures with a caption that is known; "
            "give the table of these pictures, and the texts of its captions in `judged_captions`"
        )
    return found


def _score(row: Mapping[str, Any], path: Path) -> float:
    """Return what people think of a pair; what is no finite number has no rank."""
    score = row["score"]
    if isinstance(score, str) or not np.isfinite(score):
        raise ManifestError(
            f"{path}: the score of a pair with {row['image']} is {score!r}, no finite number; mend the row, or leave "
            "its score empty so that it is left out"
        )
    return float(score)


def _by_id(name: str, captions: Mapping[str, list[str]]) -> str:
    image, _, place = name.rpartition("#")
    said = captions.get(Path(image).stem, [])
    return said[int(place)] if place.isdigit() and int(place) < len(said) else ""
