"""A benchmark's data in whatever layout they lie: found, recognised, counted, and every picture looked at."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from stages.evaluations.data import captions, clips, folders, masks, parquet, questions, webdataset
from stages.evaluations.data.dataset import Dataset
from stages.evaluations.data.hashing import Progress, quiet
from stages.evaluations.data.places import Request
from stages.evaluations.data.rows import FileBody, Found
from stages.evaluations.data.soundness import sound
from stages.evaluations.registry import Benchmark, Format
from stages.evaluations.registry import benchmark as registered
from stages.manifest import ManifestError

Split = Literal["test", "train"]


class Reader(NamedTuple):
    """One layout."""

    fits: Callable[[Request], bool]
    read: Callable[[Request], Found]
    layout: str
    """In words, for whoever has data and wants to know how to lay them out."""


READERS: dict[Format, Reader] = {
    "webdataset": Reader(
        webdataset.fits, webdataset.read,
        "test/0.tar, 1.tar, ... with nshards.txt, of KEY.jpg|png|webp (or a video) and KEY.cls, KEY.txt or KEY.json; "
        "classnames.txt and zeroshot_classification_templates.txt beside: CLIP_benchmark's layout; or one .tar file",
    ),
    "parquet": Reader(
        parquet.fits, parquet.read,
        "*.parquet with columns image, label and class_name, caption(s), question, answer(s) and options, or mask; "
        "and split where both splits are in one file",
    ),
    "segmentation_folders": Reader(
        masks.fits, masks.read,
        "images/validation/*.jpg and annotations/validation/*.png (training/ beside), or images/ and masks/; "
        "classes.txt",
    ),
    "karpathy": Reader(
        captions.fits, captions.read,
        "dataset_*.json of Karpathy, captions_*.json of COCO, a JSON list of image and caption, or image,caption "
        "lines; the pictures in any folders below",
    ),
    "vqa_json": Reader(
        questions.fits, questions.read,
        "the question files as they are published (JSON, JSON lines, or a TSV with pictures in base64; of MME its "
        "folders), and the pictures in any folders below",
    ),
    "videos": Reader(
        clips.fits, clips.read,
        "val/<class>/*.mp4, or val.csv (label,youtube_id,...) or val.txt (path label) and the videos in any folders "
        "below; with captions MSRVTT_JSFUSION_test.csv or MSRVTT_data.json",
    ),
    "folder": Reader(
        folders.fits, folders.read,
        "val/<class>/*.jpg (train/<class>/ beside for probes), or val/labels.csv with file,label; classes.txt where "
        "the order of the labels is not that of the folders' names",
    ),
}  # fmt: skip
"""In the order in which they are tried: a folder of classes is what remains."""


def open_examples(
    benchmark: Benchmark,
    place: Path,
    format: Format | Literal["auto"] = "auto",
    split: Split = "test",
    limit: int | None = None,
    *,
    language: str = "en",
    training_place: Path | None = None,
    cache: Path | None = None,
    progress: Progress = quiet,
) -> Dataset:
    """Open a benchmark's data.

    Every picture is decoded once: those that cannot be shown are left out, counted and named in `notes`.

    Args:
        benchmark: Of the registry, or a user's own.
        place: The folder or file that holds it.
        format: Its layout; recognised where left out.
        split: What is measured on, or what a probe learns from.
        limit: Only so many examples of each split, chosen by a hash of their keys: the same whatever else there is.
        language: Of the captions, where the benchmark has several.
        training_place: Where `trained_on` lies; looked for beside `place` where left out.
        cache: A folder in which digests of files, and what could be read, are remembered.
        progress: Told how far hashing and checking are.

    Raises:
        ManifestError: Nothing is there, or it is incomplete, or in no known layout; says what to fetch.
    """
    if not place.exists():
        raise ManifestError(f"there is nothing at {place}: {what_to_fetch(benchmark)}")
    request = Request(benchmark, place, split, language)
    try:
        layout = format if format != "auto" else _recognised(request)
        found = READERS[layout].read(request)
        if not found.rows:
            raise ManifestError(f"{place} has no example of the split {split}")
        _check_classes(benchmark, found, place)
        _check_files(found, place)
    except ManifestError as error:
        raise ManifestError(f"{error}. {benchmark.title}: {what_to_fetch(benchmark)}") from None

    def training() -> Dataset:
        source, where = _trained_on(benchmark, place, training_place)
        same = layout if where == place else "auto"
        return open_examples(source, where, same, "train", limit, cache=cache, progress=progress)

    dataset = Dataset(
        found,
        benchmark.reading,
        place,
        cache=cache,
        progress=progress,
        training=training if split == "test" else None,
    )
    if limit is not None:
        dataset = dataset.subset(chosen([(row.key, row.group or row.key) for row in found.rows], limit))
    elif split == "test" and benchmark.examples not in (None, len(dataset)):
        dataset.notes.append(f"{benchmark.title} has {benchmark.examples:,} examples, {len(dataset):,} were found")
    try:
        whole = sound(dataset, cache, progress)
    except ManifestError as error:
        raise ManifestError(f"{place}: {error}. {benchmark.title}: {what_to_fetch(benchmark)}") from None
    if limit is None and split == "test" and benchmark.sha256 not in (None, dataset.digest):
        whole.notes.append(f"the data are not those that were published: digest {dataset.digest[:12]}")
    return whole


def _trained_on(benchmark: Benchmark, place: Path, given: Path | None) -> tuple[Benchmark, Path]:
    """Return the benchmark whose training split a head learns from, and where it lies."""
    if not benchmark.trained_on:
        return benchmark, given or place
    source = registered(benchmark.trained_on)
    where = given or find_place(source, place.parent)
    if where is None:
        raise ManifestError(f"heads for {benchmark.title} are trained on {source.title}: {what_to_fetch(source)}")
    return source, where


def chosen(keys: list[tuple[str, str]], limit: int) -> list[int]:
    """Return which of the examples are taken, in their order.

    Args:
        keys: (key, group) of each example; groups are taken whole or not at all.
        limit: Most examples; the first group is taken even if it is larger.
    """
    sizes: dict[str, int] = {}
    for _, group in keys:
        sizes[group] = sizes.get(group, 0) + 1
    taken: set[str] = set()
    total = 0
    for group in sorted(sizes, key=lambda each: hashlib.sha256(each.encode("utf-8", "surrogateescape")).digest()):
        if total + sizes[group] <= limit or not taken:
            taken.add(group)
            total += sizes[group]
        if total >= limit:
            break
    return [number for number, (_, group) in enumerate(keys) if group in taken]


def find_place(benchmark: Benchmark, data: Path | None, at: Mapping[str, Path] | None = None) -> Path | None:
    """Return where a benchmark's data lie: where the user says, else below the data folder; None where nowhere.

    Args:
        benchmark: Of the registry, or a user's own.
        data: The folder of all datasets; in it `<name>/`, `<name>.tar`, `<name>.parquet`, or `wds_<name>/`.
        at: Places by benchmark, which win.
    """
    if at and benchmark.name in at:
        return at[benchmark.name]
    if data is None:
        return None
    names = [benchmark.place] if benchmark.place else [benchmark.name, f"wds_{benchmark.name}"]
    names += [f"{benchmark.name}.tar", f"{benchmark.name}.parquet"]
    return next((data / name for name in names if (data / name).exists()), None)


def what_to_fetch(benchmark: Benchmark) -> str:
    """Return what a user has to do to have a benchmark's data."""
    layouts = "; or ".join(READERS[each].layout for each in benchmark.formats)
    return (
        f"{benchmark.get.rstrip('. ')} (from {benchmark.homepage}; {benchmark.licence}). Layout: {layouts}. Put it "
        f"into DIR/{benchmark.place or benchmark.name} and give --data DIR, or give --at {benchmark.name}=PATH"
    )


def _recognised(request: Request) -> Format:
    for name, reader in READERS.items():
        if name in request.benchmark.formats and reader.fits(request):
            return name
    inside = (
        ", ".join(sorted(each.name for each in request.place.iterdir())[:8]) if request.place.is_dir() else "a file"
    )
    raise ManifestError(f"{request.place} ({inside or 'empty'}) is in no layout that this benchmark is known in")


def _check_classes(benchmark: Benchmark, found: Found, place: Path) -> None:
    """Refuse data with other classes: their labels would mean something else."""
    if benchmark.classes and found.classes and len(found.classes) != benchmark.classes:
        raise ManifestError(
            f"{place} has {len(found.classes)} classes, not the {benchmark.classes} of {benchmark.title}; complete "
            "it, or list all classes in the order of their labels in classes.txt (classnames.txt beside tars)"
        )


def _check_files(found: Found, place: Path) -> None:
    """Refuse a list none of whose files is there: they were not unpacked, or lie elsewhere."""
    files = [body.file for row in found.rows for body in row.bodies if isinstance(body, FileBody)]
    if files and not any(path.is_file() for path in files):
        raise ManifestError(
            f"none of the {len(set(files)):,} files that {place} lists lies beside or below the list, the first of "
            f"them being {files[0].name}; put them there"
        )
