"""Where things lie in a dataset's folder: the split that is asked for, and pictures by the names that lists give."""

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages.evaluations.registry import Benchmark
from stages.manifest import ManifestError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov")
SPLITS = {
    "test": ("test", "val", "validation", "valid", "dev", "testmini", "test_dev", "testdev"),
    "train": ("train", "training"),
}
"""What datasets call the part that is measured on, and the part that a probe learns from; the first found is it."""
_DIGITS = re.compile(r"(\d+)")
_LARGEST_LIST = 2 << 30
_LONGEST_CELL = 64 << 20


class Request(NamedTuple):
    """What a reader is asked for."""

    benchmark: Benchmark
    place: Path
    split: str = "test"
    language: str = "en"

    @property
    def measures_classes(self) -> bool:
        """Whether every protocol of the benchmark is about classes, none about captions or questions."""
        about = {row.protocol for row in self.benchmark.rows}
        return bool(about) and about <= {"zero_shot_classification", "linear_probe", "video_classification"}


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return what names are sorted by: numbers in them count as numbers, so that 10 follows 9."""
    pieces = [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in _DIGITS.split(name) if piece]
    return pieces, name


def class_order(name: str) -> tuple[int, int, str]:
    """Return what class folders are sorted by: as numbers where they are numbers (ImageNet-V2), else by name."""
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)


def split_folder(place: Path, split: str) -> Path:
    """Return the folder of a split: `test/`, `val/`, ... or `train/`; the place itself where it has no such folder.

    Raises:
        ManifestError: The training split is asked for and is not there, or only it is there.
    """
    for name in SPLITS[split]:
        if (place / name).is_dir():
            return place / name
    if split == "test" and not any((place / name).is_dir() for name in SPLITS["train"]):
        return place
    raise ManifestError(f"{place} has no {split} split; put it into {place}/{SPLITS[split][0]}/")


def of_split(value: str, split: str) -> bool:
    """Say whether a row's own word for its split means the one that is asked for."""
    return value.lower().replace("-", "_") in SPLITS[split]


def files_below(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the files with these endings, in natural order of their names; hidden ones are passed over."""
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        about = os.stat(root)
        # A link may lead to a folder above it.
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted((each for each in folders if not each.startswith(".")), key=natural)
        for name in sorted(names, key=natural):
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                yield Path(root, name)


class Pictures:
    """The files below a place by the names that lists give them; a list can name nothing outside."""

    def __init__(self, place: Path, suffixes: Sequence[str] = PICTURES) -> None:
        """Walk through the place once."""
        self._place = place
        self._names: dict[str, Path] = {}
        self._by_name: dict[str, list[str]] = {}
        for path in files_below(place, suffixes):
            name = path.relative_to(place).as_posix()
            self._names[name] = path
            for known in {path.name, path.stem}:
                self._by_name.setdefault(known, []).append(name)
        self.missing: list[str] = []

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._names)

    def has(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        return name in self._names or PurePosixPath(name).name in self._by_name

    def find(self, name: str) -> Path:
        """Return where a picture lies: at the path given, or anywhere below by its end.

        A picture that is not there is remembered in `missing`; the path returned then leads nowhere.

        Raises:
            ManifestError: Several files have this name.
        """
        if name in self._names:
            return self._names[name]
        wanted = PurePosixPath(name)
        found = self._by_name.get(wanted.name, [])
        if len(found) > 1:
            found = [each for each in found if f"/{each}".endswith(f"/{name}")] or found
        if len(found) > 1:
            raise ManifestError(f"{name!r} may be {found[0]} or {found[1]} in {self._place}; keep one of them")
        if found:
            return self._names[found[0]]
        self.missing.append(name)
        return self._place / "not there" / wanted.name


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or the rows of a JSON-lines file.

    Raises:
        ManifestError: It is neither, or too large.
    """
    if path.stat().st_size > _LARGEST_LIST:
        raise ManifestError(f"{path} has more than {_LARGEST_LIST:,} bytes; name the file of one split")
    text = _text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        whole = error
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise ManifestError(f"{path} is neither JSON nor JSON lines ({whole}); fetch it again") from None
    if not rows:
        raise ManifestError(f"{path} is empty; fetch it again")
    return rows


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV or TSV file with a header.

    Raises:
        ManifestError: It is empty, or a row has another number of cells.
    """
    csv.field_size_limit(_LONGEST_CELL)
    lines = _text(path).splitlines(keepends=True)
    tabs = path.suffix == ".tsv" or (bool(lines) and "\t" in lines[0])
    try:
        rows = list(csv.DictReader(lines, delimiter="\t" if tabs else ",", restkey="", strict=True))
    except csv.Error as error:
        raise ManifestError(f"{path} is no table: {error}; write it as CSV or TSV with a header") from None
    if not rows:
        raise ManifestError(f"{path} has a header at most; give one row per example")
    for number, row in enumerate(rows):
        if "" in row or None in row.values():
            raise ManifestError(f"row {number + 2} of {path} has another number of cells than the header; mend it")
    return rows


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file without the space around them, empty ones at its end left out."""
    return [line.strip() for line in _text(path).rstrip().split("\n")] if path.is_file() else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read ({error}); lists are text in UTF-8") from None
