"""Pictures in one folder per class, or in any folders with a `labels.csv` that says their class.

```
DIR/test/<class>/*.jpg   DIR/train/<class>/*.jpg      (val/ for test/; or DIR/<class>/ where there is one split)
DIR/test/labels.csv      file,label  or  file,class_name
DIR/classes.txt          one class per line in the order of labels: NAME, or ID<TAB>NAME  (may be missing)
DIR/real.json            ImageNet-ReaL: for each picture, by its number, all classes that are right
```
"""

import re
from pathlib import Path

from stages.evaluations.data.places import (
    PICTURES,
    SPLITS,
    Pictures,
    Request,
    class_order,
    files_below,
    lines_of,
    read_json,
    read_table,
    split_folder,
)
from stages.evaluations.data.rows import FileBody, Found, Row
from stages.manifest import ManifestError

LABELS, CLASSES, REAL = "labels.csv", "classes.txt", "real.json"
_NUMBER = re.compile(r"(\d+)\.\w+$")


def fits(request: Request) -> bool:
    """Say whether a place is laid out so."""
    place = request.place
    if not place.is_dir():
        return False
    splits = [place / name for names in SPLITS.values() for name in names if (place / name).is_dir()] or [place]
    return any((folder / LABELS).is_file() or _class_folders(folder, PICTURES) for folder in splits)


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: It is not there, or a class is none of the known ones.
    """
    folder = split_folder(request.place, request.split)
    ids, names = classes_of(request, PICTURES)
    table = folder / LABELS
    rows = _listed(table, ids, names) if table.is_file() else by_class(folder, ids, PICTURES)
    real = request.place / REAL
    if real.is_file() and request.split == "test":
        rows = _with_real(rows, real, len(names))
    strays = sum(1 for path in folder.iterdir() if path.suffix.lower() in PICTURES) if not table.is_file() else 0
    notes = (
        (f"{strays:,} pictures lie beside the class folders of {folder.name}/ and count nowhere",) if strays else ()
    )
    return Found(rows, names, ids, notes=notes)


def by_class(folder: Path, ids: tuple[str, ...], suffixes: tuple[str, ...], video: bool = False) -> list[Row]:
    """Return the examples of one folder per class."""
    rows = []
    for label, name in enumerate(ids):
        for path in files_below(folder / name, suffixes):
            key = path.relative_to(folder).as_posix()
            rows.append(Row(key, (FileBody(path),), (label,), video=video))
    return rows


def classes_of(request: Request, suffixes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the folders of the classes are called, and the classes' names, both in the order of labels.

    Classes of both splits count, so that labels mean the same in both.

    Raises:
        ManifestError: `classes.txt` does not name a folder that is there, or the names are more or fewer.
    """
    place, told = request.place, [line for line in lines_of(request.place / CLASSES) if line]
    folders = () if (listed := _told_by_lists(request)) else _folders(place, suffixes)
    if told:
        pairs = [line.split("\t", 1) if "\t" in line else [line, line] for line in told]
        ids, names_ = tuple(pair[0] for pair in pairs), tuple(pair[1].strip() for pair in pairs)
        if foreign := sorted(set(folders) - set(ids)):
            raise ManifestError(f"{place / CLASSES} does not name the class folder {foreign[0]!r}; add its line")
    else:
        ids = listed or tuple(sorted(folders, key=class_order))
        names_ = request.benchmark.class_names or tuple(each.replace("_", " ") for each in ids)
    if len(names_) != len(ids):
        raise ManifestError(
            f"{place} has {len(ids)} classes, and {request.benchmark.name} names {len(names_)}; complete them, "
            f"or list all classes in their order in {place / CLASSES}"
        )
    return ids, names_


def _class_folders(folder: Path, suffixes: tuple[str, ...]) -> set[str]:
    """Return the folders that hold a file with such an ending."""
    if not folder.is_dir():
        return set()
    inside = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return {each.name for each in inside if next(files_below(each, suffixes), None) is not None}


def _folders(place: Path, suffixes: tuple[str, ...]) -> set[str]:
    splits = [place / name for names in SPLITS.values() for name in names]
    return {name for split in splits for name in _class_folders(split, suffixes)} or _class_folders(place, suffixes)


def _told_by_lists(request: Request) -> tuple[str, ...]:
    """Return the classes that the lists of both splits give: numbers up to the largest, or names in their order."""
    names: set[str] = set()
    for split in ("", *SPLITS["test"], *SPLITS["train"]):
        if (table := request.place / split / LABELS).is_file():
            names |= {row.get("class_name") or row.get("label", "") for row in read_table(table)}
    names -= {""}
    if names and all(name.isascii() and name.isdigit() for name in names):
        return tuple(str(number) for number in range(max(request.benchmark.classes or 0, 1 + max(map(int, names)))))
    return tuple(sorted(names))


def _listed(table: Path, ids: tuple[str, ...], names: tuple[str, ...]) -> list[Row]:
    lines, pictures = read_table(table), Pictures(table.parent)
    if "file" not in lines[0] or not {"label", "class_name"} & lines[0].keys():
        raise ManifestError(f"{table} has the columns {', '.join(lines[0])}; give it file and label, or class_name")
    numbers = {name: number for known in (names, ids) for number, name in enumerate(known)}
    rows = []
    for line in lines:
        said = line.get("class_name") or line["label"]
        label = numbers.get(said, int(said) if said.isascii() and said.isdigit() else -1)
        if not 0 <= label < len(names):
            raise ManifestError(f"{table} gives {line['file']} the class {said!r}, which is none of the {len(names)}")
        rows.append(Row(line["file"], (FileBody(pictures.find(line["file"])),), (label,)))
    return rows


def _with_real(rows: list[Row], real: Path, classes: int) -> list[Row]:
    """Return the rows with ImageNet-ReaL's labels (arXiv 2006.07159), without those that have none."""
    told = read_json(real)
    if not isinstance(told, list) or not all(isinstance(each, list) for each in told):
        raise ManifestError(
            f"{real} is no list of lists of labels; take real.json of google-research/reassessed-imagenet"
        )
    out = []
    for row in rows:
        found = _NUMBER.search(row.key)
        if not found or not 1 <= int(found[1]) <= len(told):
            raise ManifestError(f"{row.key} has no number for which {real} gives labels; keep ImageNet's file names")
        labels = tuple(label for label in told[int(found[1]) - 1] if isinstance(label, int) and 0 <= label < classes)
        if labels:
            out.append(row._replace(labels=labels))
    return out
