"""Every picture of a dataset is decoded once before a model is measured on it: what cannot be shown is named."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.evaluations.data.dataset import Dataset, Unreadable
from stages.evaluations.data.hashing import Progress, quiet, write_whole
from stages.manifest import ManifestError

_NAMED = 5
_AT_ONCE = 256
_FRAMES = 8
"""Moments of a video that have to be readable: as many as the paper shows."""


def sound(dataset: Dataset, cache: Path | None = None, progress: Progress = quiet) -> Dataset:
    """Return the examples that can be shown; the others are in `unreadable`, counted and named in the notes.

    Args:
        dataset: What a reader found.
        cache: Where it is remembered, by the dataset's digest, that all can be shown.
        progress: Told how far the check is.

    Raises:
        ManifestError: None of them can be shown.
    """
    if not any(row.bodies for row in dataset.rows):
        return dataset
    remembered = cache / f"unreadable-{dataset.digest}.json" if cache else None
    bad = _remembered(remembered) if remembered else None
    if bad is None:
        bad = dict(_bad(dataset, progress))
        if remembered and not bad:
            # A disk that failed once may read tomorrow: only that all can be shown is remembered.
            write_whole(remembered, json.dumps(bad))
    if not bad:
        return dataset
    if len(bad) == len(dataset):
        raise ManifestError(f"none of the {len(bad):,} examples can be shown; the first: {next(iter(bad.values()))}")
    whole = dataset.subset([number for number in range(len(dataset)) if dataset.key(number) not in bad])
    whole.unreadable = bad
    named = "; ".join(list(bad.values())[:_NAMED]) + (" ..." if len(bad) > _NAMED else "")
    whole.notes.append(f"{len(bad):,} of {len(dataset):,} examples cannot be read and are left out: {named}")
    return whole


def _bad(dataset: Dataset, progress: Progress) -> Iterator[tuple[str, str]]:
    def why(number: int) -> str | None:
        try:
            pictures = dataset.pictures(number, _FRAMES)
            if (
                dataset.rows[number].mask is not None
                and (size := dataset.mask(number).shape[::-1]) != pictures[0].size
            ):
                return f"the mask of {dataset.key(number)} is {size}, its picture {pictures[0].size}"
        except Unreadable as error:
            return str(error)
        return None

    # Ten questions about one picture decode it once.
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, row in enumerate(dataset.rows):
        alike.setdefault((row.bodies, row.mask, row.clip), []).append(number)
    several = list(alike.values())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(several), _AT_ONCE):
            progress(start, len(several), "pictures checked")
            part = several[start : start + _AT_ONCE]
            for numbers, found in zip(part, threads.map(why, (each[0] for each in part)), strict=True):
                if found:
                    yield from ((dataset.key(number), found) for number in numbers)
    progress(len(several), len(several), "pictures checked")


def _remembered(file: Path) -> dict[str, str] | None:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Nothing is lost with it but time: every picture is decoded again.
        return None
    return known if isinstance(known, dict) else None
