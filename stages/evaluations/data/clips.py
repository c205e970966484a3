"""Videos in one folder per class, or in a list: Kinetics' CSV, `path label` lines, MSR-VTT's JSON and its 1K-A list.

```
DIR/val/<class>/*.mp4
DIR/val.csv                       label,youtube_id,time_start,time_end,split     videos in any folders below
DIR/val.txt                       path label
DIR/MSRVTT_data.json              videos[] and sentences[];  MSRVTT_JSFUSION_test.csv wins where it lies beside
```
"""

from collections.abc import Mapping
from pathlib import Path

from stages.evaluations.data.folders import CLASSES, by_class, classes_of
from stages.evaluations.data.places import (
    SPLITS,
    VIDEOS,
    Pictures,
    Request,
    files_below,
    lines_of,
    of_split,
    read_json,
    read_table,
    split_folder,
)
from stages.evaluations.data.rows import FileBody, Found, Row
from stages.manifest import ManifestError

_TEST_LISTS = ("MSRVTT_JSFUSION_test.csv", "msrvtt_test_1k.csv")


def fits(request: Request) -> bool:
    """Say whether videos, and what tells about them, lie at a place."""
    return request.place.is_dir() and next(files_below(request.place, VIDEOS), None) is not None


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: Nothing tells about the videos, or in a form that is not known.
    """
    place = request.place
    if any(row.protocol == "video_retrieval" for row in request.benchmark.rows):
        return Found(_with_captions(request))
    listed = [place / f"{name}{suffix}" for name in SPLITS[request.split] for suffix in (".csv", ".txt")]
    path = next((each for each in listed if each.is_file()), None)
    if path is None:
        ids, names = classes_of(request, VIDEOS)
        return Found(by_class(split_folder(place, request.split), ids, VIDEOS, video=True), names, ids)
    told = _of_csv(path) if path.suffix == ".csv" else _of_lines(path)
    classes = tuple(line for line in lines_of(place / CLASSES) if line) or tuple(sorted({name for _, name in told}))
    videos, rows = Pictures(place, VIDEOS), []
    for name, said in told:
        label = classes.index(said) if said in classes else int(said) if said.isascii() and said.isdigit() else -1
        if not 0 <= label < len(classes):
            raise ManifestError(f"{path} gives {name} the class {said!r}, which {place / CLASSES} does not name")
        rows.append(Row(name, (FileBody(videos.find(name)),), (label,), video=True))
    return Found(rows, classes)


def _of_csv(path: Path) -> list[tuple[str, str]]:
    """Return (name of the video, class) of Kinetics' lists; tools name a clip by its video's id, or by times too."""
    lines = read_table(path)
    word = next((word for word in ("youtube_id", "video", "file", "path") if word in lines[0]), None)
    if word is None or "label" not in lines[0]:
        raise ManifestError(f"{path} has the columns {', '.join(lines[0])}; it needs label, and youtube_id or file")
    below = Pictures(path.parent, VIDEOS)
    out = []
    for line in lines:
        name = line[word]
        if word == "youtube_id" and line.get("time_start", "").strip():
            first, last = (int(float(line[which])) for which in ("time_start", "time_end"))
            timed = f"{name}_{first:06d}_{last:06d}.mp4"
            name = timed if below.has(timed) else f"{name}.mp4"
        elif word == "youtube_id":
            name = f"{name}.mp4"
        out.append((name, line["label"].strip()))
    return out


def _of_lines(path: Path) -> list[tuple[str, str]]:
    out = []
    for number, line in enumerate(lines_of(path), 1):
        name, found, said = line.rpartition("\t") if "\t" in line else line.rpartition(" ")
        if not found:
            raise ManifestError(f"line {number} of {path} is not `path label`; mend it")
        out.append((name.strip(), said.strip()))
    return out


def _with_captions(request: Request) -> list[Row]:
    place, videos = request.place, Pictures(request.place, VIDEOS)
    for name in _TEST_LISTS:
        for path in (place / name, place / "annotations" / name):
            if path.is_file() and request.split == "test":
                told: dict[str, list[str]] = {}
                for line in read_table(path):
                    told.setdefault(line["video_id"], []).append(line["sentence"])
                return _captioned(told, videos)
    lists = [each for folder in (place, place / "annotations") for each in sorted(folder.glob("*.json"))]
    chosen = [each for each in lists if any(word in each.stem.lower() for word in SPLITS[request.split])] or lists
    if not chosen:
        raise ManifestError(
            f"{place} has no list of captions; put MSRVTT_JSFUSION_test.csv or MSRVTT_data.json there"
        )
    return _captioned(_of_msrvtt(chosen[0], request.split), videos)


def _of_msrvtt(path: Path, split: str) -> dict[str, list[str]]:
    whole = read_json(path)
    try:
        kept = {each["video_id"] for each in whole["videos"] if of_split(str(each.get("split", split)), split)}
        told: dict[str, list[str]] = {}
        for each in whole["sentences"]:
            if each["video_id"] in kept:
                told.setdefault(each["video_id"], []).append(str(each["caption"]).strip())
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path} is not MSR-VTT's JSON ({type(error).__name__}: {error}); fetch it again"
        ) from None
    return told


def _captioned(told: Mapping[str, list[str]], videos: Pictures) -> list[Row]:
    return [
        Row(name, (FileBody(videos.find(f"{name}.mp4")),), captions=tuple(said), video=True)
        for name, said in told.items()
    ]
