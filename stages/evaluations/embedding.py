"""Vectors of pictures, videos and texts, the way the paper's protocols take them; each is computed once per model."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from stages.evaluation_metrics import Floats
from stages.evaluation_retrieval import Judge
from stages.evaluations.base import Examples, Subject
from stages.manifest import ManifestError, digest_of

PROMPTS_AT_ONCE = 2048


def unit(vectors: Floats) -> Floats:
    """Return vectors of length one, shape (rows, width)."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _sound(subject: Subject, vectors: Floats, of: str) -> Floats:
    """Return vectors that all are numbers: none is further away than NaN, so that it would count as a hit.

    Raises:
        ManifestError: One of them is not finite.
    """
    if bad := int((~np.isfinite(vectors).all(axis=1)).sum()):
        raise ManifestError(
            f"{subject.name} gives numbers that are not finite for {bad:,} of {len(vectors):,} {of}; its training "
            "diverged or its weights are damaged: evaluate an earlier checkpoint, or train it again"
        )
    return vectors


def picture_vectors(
    subject: Subject,
    examples: Examples,
    *,
    crop: bool,
    queries: bool = False,
    frames: int = 1,
    unit_frames: bool = False,
) -> Floats:
    """Return one vector of unit length per example, shape (examples, embed_dim).

    A video's is the mean over its frames. The released code takes the mean of vectors as long as the model made
    them (InternVL-G's: the sum of two of unit length), so that a frame of which it is sure counts for more.

    Args:
        subject: The model.
        examples: What it looks at.
        crop: Resize the short side and cut out the middle, as for classification; else squash, as for retrieval.
        queries: InternVL-G's way of looking, the ensemble of both views; else InternVL-C's.
        frames: Of each video.
        unit_frames: Give all frames the same length before their mean is taken.

    Raises:
        ManifestError: The model is no InternVL-C or -G, has no queries, gives no finite numbers, or an example shows
            nothing.
    """

    def make() -> Floats:
        judge = subject.judge
        if queries and not judge.model.generative:
            raise ManifestError(
                f"{subject.name} is an InternVL-C and has no queries; evaluate with `queries` false, or an InternVL-G"
            )
        found, done = [], 0
        for batch in _batches(examples, frames, judge.batch_size):
            subject.progress(done, len(examples), "examples")
            counts = [len(pictures) for pictures in batch]
            seen = judge.see([picture for pictures in batch for picture in pictures], crop=crop)
            vectors = judge.picture_vectors(seen, queries=queries, unit=unit_frames)
            starts = np.cumsum([0, *counts[:-1]])
            found.append(np.add.reduceat(vectors, starts) / np.array(counts)[:, None])
            done += len(batch)
        subject.progress(done, len(examples), "examples")
        return _sound(subject, unit(np.concatenate(found)), "examples")

    way = f"InternVL-{'G' if queries else 'C'}, {'cropped' if crop else 'squashed'}, {frames} frames"
    return subject.remembered(f"pictures: {way}{', of unit length' if unit_frames else ''}", examples, make)


def _batches(examples: Examples, frames: int, size: int) -> Iterator[list[list[Image.Image]]]:
    """Yield what some examples show, at least `size` pictures at a time but for the last."""
    batch: list[list[Image.Image]] = []
    held = 0
    for number in range(len(examples)):
        pictures = examples.pictures(number, frames)
        if not pictures:
            raise ManifestError(f"{examples.key(number)} shows no picture; leave it out of the dataset, or mend it")
        batch.append(pictures)
        held += len(pictures)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def class_vectors(subject: Subject, examples: Examples, prompts: Sequence[Sequence[str]]) -> Floats:
    """Return one vector of unit length per class: the mean of its prompts' unit vectors, made unit again.

    Args:
        subject: The model.
        examples: Whose classes they are.
        prompts: All sentences of each class.

    Raises:
        ManifestError: The model gives no finite numbers.
    """
    step = max(1, PROMPTS_AT_ONCE // max(len(sentences) for sentences in prompts))

    def make() -> Floats:
        found = []
        for start in range(0, len(prompts), step):
            subject.progress(start, len(prompts), "classes")
            found.append(_means(subject.judge, prompts[start : start + step]))
        subject.progress(len(prompts), len(prompts), "classes")
        return _sound(subject, unit(np.concatenate(found)), "classes")

    return subject.remembered(f"classes: {digest_of([list(each) for each in prompts])}", examples, make)


def _means(judge: Judge, prompts: Sequence[Sequence[str]]) -> Floats:
    vectors = judge.passing_vectors([sentence for sentences in prompts for sentence in sentences])
    counts = [len(sentences) for sentences in prompts]
    return np.asarray(np.add.reduceat(vectors, np.cumsum([0, *counts[:-1]])) / np.array(counts)[:, None])


def text_vectors(subject: Subject, examples: Examples, texts: Sequence[str]) -> Floats:
    """Return unit vectors of an example's texts, shape (texts, embed_dim).

    Raises:
        ManifestError: The model gives no finite numbers.
    """

    def make() -> Floats:
        found = []
        for start in range(0, len(texts), PROMPTS_AT_ONCE):
            subject.progress(start, len(texts), "texts")
            found.append(subject.judge.passing_vectors(texts[start : start + PROMPTS_AT_ONCE]))
        subject.progress(len(texts), len(texts), "texts")
        return _sound(subject, np.concatenate(found), "texts")

    return subject.remembered(f"texts: {digest_of(list(texts))}", examples, make)
