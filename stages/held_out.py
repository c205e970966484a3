"""One rule for what is kept aside: a picture, in every artifact and by every stage, by a hash of its own bytes.

A picture is kept aside if the number that its bytes hash to lies in the lowest share of all numbers. Nothing else is
asked: not where the sample stands, which filters it passed, what is said of it, or who asks. So all stages that keep
the same share aside agree on every picture, and none trains on what another measures. A count could not promise that:
the smallest 256 of one artifact are not those of a part of it.

Equal bytes are one picture; a copy that differs in one byte is another. A text without a picture is told by its own
bytes. Of a sample with several pictures all decide: it is kept aside if all of them are, and left out of everything,
and counted, if only some are. A video is one picture, whichever of its frames are shown.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages.manifest import Manifest, ManifestError

SHARE = 0.05
"""Of all pictures, where a recipe does not say otherwise."""
FIELD = "held_out_share"
VIDEO_SHA256 = "video_sha256"
"""Key of a row about a video: what the video is told by, in hexadecimal digits."""

Share = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Share of all pictures, by a hash of their bytes, that is never trained on. Stages that build on "
        "each other need the same one, or a smaller one than the stage before.",
    ),
]
Fingerprints = npt.NDArray[np.uint64]
"""(lowest, highest) fingerprint of each sample's pictures, shape (samples, 2); the same twice where it has one."""
Rows = npt.NDArray[np.int64]


def fingerprint(data: bytes) -> int:
    """Return the number that some bytes are told by: 64 bits of their sha256."""
    return _number(hashlib.sha256(data).digest())


def digests_of_members(members: Mapping[str, bytes]) -> list[bytes]:
    """Return the sha256 of all that a sample is told by, as shards hold it: suffix -> bytes.

    Pictures are members named `jpg` or `NUMBER.jpg`; where there is none, the text stands for them. The frames of a
    video are no pictures of their own: the row names what their video is told by.
    """
    pictures = {suffix: data for suffix, data in members.items() if suffix.rpartition(".")[2] == "jpg"}
    if "0.jpg" in pictures and (video := json.loads(members.get("json", b"{}")).get(VIDEO_SHA256)):
        return [bytes.fromhex(video)]
    told = list(pictures.values()) or [members.get("txt", members.get("json", b""))]
    return [hashlib.sha256(each).digest() for each in told]


def fingerprint_of_members(members: Mapping[str, bytes]) -> tuple[int, int]:
    """Return the lowest and the highest fingerprint of a sample, as shards hold it: suffix -> bytes."""
    return fingerprints_between(digests_of_members(members))


def stacked(found: Sequence[tuple[int, int]]) -> Fingerprints:
    """Return the fingerprints of samples as one array."""
    return np.array(found, dtype=np.uint64).reshape(-1, 2)


def fingerprints_of(digests: Iterable[bytes]) -> Fingerprints:
    """Return the fingerprints of samples of one picture each, by the sha256 of its bytes."""
    return stacked([(_number(digest),) * 2 for digest in digests])


def fingerprints_between(digests: Sequence[bytes]) -> tuple[int, int]:
    """Return the lowest and the highest fingerprint of a sample's pictures, by the sha256 of each."""
    told = [_number(digest) for digest in digests]
    return min(told), max(told)


def fingerprints_of_texts(texts: Iterable[str]) -> Fingerprints:
    """Return the fingerprints of texts that belong to no picture."""
    return stacked([(fingerprint(text.encode("utf-8", "surrogatepass")),) * 2 for text in texts])


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")


@dataclass(frozen=True)
class Divided:
    """What is trained on, and what of the rest is measured; rows of an artifact, each in rising order."""

    taught: Rows
    aside: Rows
    between: int = 0
    """How many are on neither side: some of their pictures are kept aside, and others are not."""


def by_shard(rows: Rows | Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return how many of some samples, in rising order, lie in each shard that has some; `sizes` are those of all."""
    found = np.searchsorted(rows, np.cumsum(sizes))
    return tuple(int(size) for size in np.diff(found, prepend=0) if size)


def divide(fingerprints: Fingerprints, share: float, held_out: int, name: str, needed: bool = True) -> Divided:
    """Divide samples into those that are trained on and those that are measured.

    Args:
        fingerprints: Of the samples.
        share: Of all pictures that is kept aside.
        held_out: Most samples that are measured: those with the smallest fingerprints.
        name: Of the artifact that they come from.
        needed: Whether something has to be kept aside where `held_out` asks to measure.

    Raises:
        ManifestError: Nothing is left to train on, or nothing is kept aside that has to be.
    """
    limit = np.uint64(int(share * 2**64))
    taught = np.flatnonzero(fingerprints[:, 0] >= limit)
    aside = np.flatnonzero(fingerprints[:, 1] < limit)
    count = len(fingerprints)
    if not len(taught):
        raise ManifestError(
            f"{name} holds {count} samples that can be used and {FIELD} {share:g} keeps the pictures of all of them "
            f"aside: nothing is left to train on; lower {FIELD} or bring more samples"
        )
    if held_out and needed and not len(aside):
        raise nothing_aside(name, count, share)
    smallest = np.argsort(fingerprints[aside, 1], kind="stable")[:held_out]
    return Divided(taught, np.sort(aside[smallest]), count - len(taught) - len(aside))


def stranger(
    row: int, others: Sequence[int] | Rows, start: int, told_by: Callable[[int], tuple[int, int]]
) -> int | None:
    """Return the first of other samples, from place `start` on and around, that shows none of a sample's pictures.

    Samples of one picture often are neighbours, and are kept aside together: the next one shows it again.

    Args:
        row: The sample.
        others: Among which one is looked for.
        start: Place in `others`.
        told_by: Returns the lowest and the highest fingerprint of a sample's pictures.

    Returns:
        A sample, None where all show the same.
    """
    own = set(told_by(row))
    around = (int(others[(start + step) % len(others)]) for step in range(len(others)))
    return next((other for other in around if own.isdisjoint(told_by(other))), None)


def strangers(rows: Sequence[int], told_by: Callable[[int], tuple[int, int]]) -> dict[int, int]:
    """Return for samples the next of them that shows another picture; those that have none are left out."""
    found = {row: stranger(row, rows, place + 1, told_by) for place, row in enumerate(rows)}
    return {row: other for row, other in found.items() if other is not None}


def only_one_picture(name: str) -> ManifestError:
    """Return the error about samples that a blind run cannot learn from."""
    return ManifestError(
        f"{name}: a blind run needs a second picture, and all samples show the same; bring samples of other pictures"
    )


def nothing_aside(name: str, count: int, share: float) -> ManifestError:
    """Return the error about samples of which none is kept aside."""
    return ManifestError(
        f"{name} holds {count} samples that can be used and {FIELD} {share:g} keeps none of their pictures aside, so "
        f"nothing could be measured; raise {FIELD}, in all stages alike, or bring more samples"
    )


def check_road(share: float, inputs: Iterable[Manifest]) -> None:
    """Refuse to keep aside what a checkpoint that is built on was trained on.

    A smaller share is part of a larger one. What a checkpoint was trained on elsewhere, that tells of no share or was
    taken over as it was, nobody here can know.

    Raises:
        ManifestError: A checkpoint among the inputs kept a smaller share aside.
    """
    for each in inputs:
        told = each.identity.get("parameters", {})
        before = None if told.get("pretrained") else told.get(FIELD)
        if before is not None and before < share:
            raise ManifestError(
                f"{each.ref} was trained with {FIELD} {before:g} and this stage has {share:g}: it would measure on "
                f"pictures that were trained on; set {FIELD} to {before:g} here, or train it again with {share:g}"
            )
