"""Tars of a picture or video and what is true of it, as CLIP_benchmark keeps its datasets.

```
DIR/test/0.tar, 1.tar, ...  nshards.txt     KEY.webp|jpg|png and KEY.cls (a class) or KEY.txt (captions, one a line)
DIR/classnames.txt  zeroshot_classification_templates.txt  dataset_type.txt
```
A single tar, or tars in one folder, will do as well. Besides, `KEY.json` may hold `captions`, or questions (`qa`, or
`question` and `answer`); `KEY.mask.png` a mask. Only headers and truths are read here; pictures stay in the tar.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stages.evaluations.data.places import PICTURES, SPLITS, VIDEOS, Request, lines_of, natural
from stages.evaluations.data.records import question_of, word_of
from stages.evaluations.data.rows import Found, Row, StretchBody
from stages.manifest import ManifestError

CLASSES, TEMPLATES, SHARDS = "classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt"
_MASKS = ("mask.png", "seg.png")
_LARGEST_TRUTH = 16 << 20
_TRUTHS = ("cls", "txt", "json")


def fits(request: Request) -> bool:
    """Say whether tars lie at a place."""
    return bool(_tars(request.place, request.split)) or (request.place / "test" / SHARDS).is_file()


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: A tar is missing, torn or compressed; or a class is none of the known ones.
    """
    tars = _complete(request)
    several = len(tars) > 1
    samples = [(f"{tar.stem}/{key}" if several else key, members) for tar in tars for key, members in _samples(tar)]
    place = request.place if request.place.is_dir() else request.place.parent
    told = tuple(lines_of(place / CLASSES)) if request.place.is_dir() else ()
    by_text = request.measures_classes and not any("cls" in members for _, members in samples)
    names = [
        _class_text(key, members, by_text or request.benchmark.reading.text == "class") for key, members in samples
    ]
    classes = told or request.benchmark.class_names or _classes_of(names)
    rows: list[Row] = []
    for (key, members), name in zip(samples, names, strict=True):
        rows.extend(_rows(key, members, _label(key, name, classes), name, request))
    templates = tuple(line for line in lines_of(place / TEMPLATES) if line) if request.place.is_dir() else ()
    return Found(rows, classes if any(names) else (), templates=templates)


def _tars(place: Path, split: str) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix == ".tar" and split == "test" else []
    for name in SPLITS[split]:
        if found := sorted((place / name).glob("*.tar"), key=lambda path: natural(path.name)):
            return found
    return sorted(place.glob("*.tar"), key=lambda path: natural(path.name)) if split == "test" else []


def _complete(request: Request) -> list[Path]:
    tars = _tars(request.place, request.split)
    folder = tars[0].parent if tars else request.place / request.split
    if told := lines_of(folder / SHARDS):
        wanted = [folder / f"{number}.tar" for number in range(int(told[0]) if told[0].isdigit() else 0)]
        if lost := [path.name for path in wanted if not path.is_file()]:
            raise ManifestError(
                f"{folder} has to have {len(wanted)} tars by its {SHARDS}; {len(lost)} are missing, first {lost[0]}"
            )
    if not tars:
        raise ManifestError(
            f"{request.place} has no tar of the split {request.split}; put 0.tar, 1.tar, ... into {folder}"
        )
    return tars


def _samples(tar: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (key, suffix -> text or where the bytes lie) for each sample of a tar; nothing else of it is read."""
    key, members = "", dict[str, Any]()
    try:
        # No compression: a picture could not be read without all that is before it.
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                path = PurePosixPath(member.name)
                stem, _, suffix = path.name.partition(".")
                if not stem:
                    continue
                name = str(path.with_name(stem))
                if name != key and members:
                    yield key, members
                    members = {}
                key, suffix = name, suffix.lower()
                if suffix in members:
                    raise ManifestError(f"{tar} has {member.name} twice; pack it again")
                if suffix not in _TRUTHS:
                    members[suffix] = StretchBody(tar, member.offset_data, member.size)
                elif member.size > _LARGEST_TRUTH:
                    raise ManifestError(
                        f"{member.name} of {tar} has {member.size:,} bytes; it should be a short text"
                    )
                elif (file := archive.extractfile(member)) is not None:
                    members[suffix] = file.read().decode("utf-8")
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{tar} is no whole, uncompressed tar ({error}); fetch or pack it again") from None
    if members:
        yield key, members


def _class_text(key: str, members: Mapping[str, Any], by_text: bool) -> str:
    if "cls" in members:
        return str(members["cls"]).strip()
    if not by_text:
        return ""
    text = str(members.get("txt", "")).strip()
    if not text or "\n" in text:
        raise ManifestError(f"{key} has no .cls, and its .txt is not the one line that a class's name is; add it")
    return text


def _classes_of(names: list[str]) -> tuple[str, ...]:
    known = {name for name in names if name}
    if all(name.isascii() and name.isdigit() for name in known):
        return tuple(str(number) for number in range(1 + max(map(int, known), default=-1)))
    return tuple(sorted(known))


def _label(key: str, name: str, classes: tuple[str, ...]) -> int:
    if not name:
        return -1
    if name in classes and not name.isdigit():
        return classes.index(name)
    if name.isascii() and name.isdigit() and int(name) < len(classes):
        return int(name)
    raise ManifestError(f"{key} is of class {name!r}, which is none of the {len(classes)} in {CLASSES}; complete it")


def _rows(key: str, members: Mapping[str, Any], label: int, name: str, request: Request) -> Iterator[Row]:
    shown = [(suffix, each) for suffix, each in members.items() if suffix not in (*_TRUTHS, *_MASKS, "npy")]
    pictures = [each for suffix, each in shown if f".{suffix.split('.')[-1]}" in PICTURES]
    videos = [each for suffix, each in shown if f".{suffix}" in VIDEOS]
    if not pictures and not videos:
        raise ManifestError(
            f"{key} has no picture, only {', '.join(members)}; known are {', '.join(PICTURES + VIDEOS)}"
        )
    told = _json(key, members.get("json"))
    mask = next((members[each] for each in _MASKS if each in members), None)
    captions = _captions(told, "" if name and "cls" not in members else str(members.get("txt", "")))
    row = Row(
        key, tuple(videos[:1] or pictures), (label,) if label >= 0 else (), captions, mask=mask, video=bool(videos)
    )
    questions = told.get("qa") if isinstance(told, dict) else None
    if isinstance(told, dict) and questions is None and word_of("question", told, {}):
        questions = [told]
    if not questions:
        yield row
    for number, each in enumerate(questions or ()):
        asked = question_of(each, request.benchmark.reading.columns)
        yield row._replace(key=f"{key}#{number}", question=asked, group=key)


def _json(key: str, text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise ManifestError(f"{key}.json is no JSON ({error}); pack it again") from None


def _captions(told: Any, text: str) -> tuple[str, ...]:
    said = told if isinstance(told, list) else told.get("captions", told.get("caption", []))
    if isinstance(said, str):
        said = [said]
    found = tuple(str(each).strip() for each in said if str(each).strip())
    return found or tuple(line.strip() for line in text.splitlines() if line.strip())
