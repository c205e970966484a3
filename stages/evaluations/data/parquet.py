"""Parquet files, as Hugging Face's datasets and others write them; columns are known by their usual names.

Small columns are read whole; pictures, videos and masks stay in the file until they are asked for.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.evaluations.data.places import PICTURES, SPLITS, VIDEOS, Pictures, Request, natural, of_split
from stages.evaluations.data.records import question_of
from stages.evaluations.data.rows import Body, CellBody, Cells, FileBody, Found, Row
from stages.manifest import ManifestError

WORDS: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "jpg", "png", "webp", "picture", "image_bytes", "image_path"),
    "video": ("video", "mp4"),
    "mask": ("mask", "mask_png", "annotation", "segmentation"),
    "label": ("label", "cls", "fine_label", "labels"),
    "class_name": ("class_name", "label_name"),
    "class_id": ("wnid", "class_id"),
    "caption": ("captions", "caption", "sentences", "sentence", "texts"),
    "question": ("question", "query"),
    "split": ("split",),
    "key": ("key", "filename", "file_name", "question_id", "questionId", "image_id", "id", "index"),
}
"""What columns are called, the likeliest first; `Reading.columns` wins."""


def fits(request: Request) -> bool:
    """Say whether parquet files lie at a place."""
    return bool(_files(request.place, request.split))


def read(request: Request) -> Found:
    """Return a split's examples.

    Raises:
        ManifestError: A file is damaged, files differ in their columns, or a value is none that is expected.
    """
    rows: list[Row] = []
    tables = [_Table(path, request) for path in _files(request.place, request.split)]
    classes, ids = _classes(tables, request)
    whole = _keys_are_unique(tables)
    for table in tables:
        rows.extend(table.rows(classes, ids, whole))
    if not rows:
        raise ManifestError(
            f"{request.place} has no row of the split {request.split}{_where(request)}; look at its columns"
        )
    notes = () if any(row.bodies for row in rows) else ("there are no pictures: questions are asked without one",)
    return Found(rows, classes, ids, notes=notes)


def _where(request: Request) -> str:
    told = request.benchmark.reading.where
    return " with " + ", ".join(f"{name}={value}" for name, value in told.items()) if told else ""


def _files(place: Path, split: str) -> list[Path]:
    """Return the files of a split by their names, or all where names tell nothing (a column may then)."""
    if place.is_file():
        return [place] if place.suffix == ".parquet" else []
    folders = (place, place / "data", *(place / name for name in SPLITS[split]))
    found = sorted(
        (path for folder in folders for path in folder.glob("*.parquet")), key=lambda path: natural(path.name)
    )

    def named(words: Sequence[str]) -> list[Path]:
        return [path for path in found if path.parent.name in words or path.stem.split("-")[0] in words]

    for word in SPLITS[split]:
        if chosen := named([word]):
            return chosen
    other = named(SPLITS["train" if split == "test" else "test"])
    return [path for path in found if path not in other]


class _Table:
    """One file: its light columns in memory, its heavy ones behind `Cells`."""

    def __init__(self, path: Path, request: Request) -> None:
        self.path, self._request = path, request
        called = request.benchmark.reading.columns
        try:
            self._cells = Cells(path)
            schema = pq.read_schema(path)
            self.words = {part: _word(part, schema.names, called) for part in WORDS}
            self._bulky = [name for name in schema.names if _is_bulky(schema.field(name).type)]
            self.light = pq.read_table(path, columns=[name for name in schema.names if name not in self._bulky])
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{path} is no whole parquet file ({error}); fetch it again") from None
        self.chosen = self._chosen()
        self.told_names = _hugging_face_names(schema, self.words["label"])

    def _chosen(self) -> list[int]:
        """Return the rows of the split that is asked for, and only those that `where` wants."""
        numbers = list(range(len(self.light)))
        for name, value in self._request.benchmark.reading.where.items():
            said = self.column(name)
            numbers = [number for number in numbers if str(said[number]) == value]
        if (word := self.words["split"]) is None:
            if self._request.split == "train" and not any(name in self.path.stem for name in SPLITS["train"]):
                raise ManifestError(f"{self.path} says of no row that it is for training; give it a column split")
            return numbers
        said = self.column(word)
        for exact in SPLITS[self._request.split]:
            if found := [
                number
                for number in numbers
                if of_split(str(said[number]), self._request.split) and str(said[number]).lower() == exact
            ]:
                return found
        return []

    def column(self, name: str) -> list[Any]:
        if name not in self.light.column_names:
            has = ", ".join(self.light.column_names)
            raise ManifestError(
                f"{self.path} has no column {name!r}, only {has}; name it in reading of the description"
            )
        return list(self.light[name].to_pylist())

    def part(self, part: str) -> list[Any] | None:
        word = self.words[part]
        return self.column(word) if word else None

    def keys(self) -> list[str] | None:
        """Return the first column of names whose values differ; names may repeat where classes have folders."""
        called = self._request.benchmark.reading.columns
        for word in [called["key"]] if "key" in called else WORDS["key"]:
            if word in self.light.column_names:
                said = self.column(word)
                keys = [str(said[number]) for number in self.chosen]
                if len(set(keys)) == len(keys):
                    return keys
        return None

    def rows(self, classes: tuple[str, ...], ids: tuple[str, ...], by_key: bool) -> list[Row]:
        keys = (self.keys() if by_key else None) or [f"{self.path.name}:{number}" for number in self.chosen]
        labels, names, captions = self.part("label"), self.part("class_name"), self.part("caption")
        asks = self.light.to_pylist() if self.words["question"] else None
        pictures = self._pictures()
        out = []
        for key, number in zip(keys, self.chosen, strict=True):
            label = self._label(key, labels and labels[number], names and names[number], classes)
            said = captions[number] if captions else None
            out.append(
                Row(
                    key,
                    self._bodies(number, pictures),
                    (label,) if label is not None else (),
                    tuple(map(str, said)) if isinstance(said, list) else (str(said),) if said is not None else (),
                    question_of(asks[number], self._request.benchmark.reading.columns) if asks else None,
                    CellBody(self._cells, self.words["mask"], number) if self.words["mask"] else None,
                    video=self.words["video"] is not None,
                )
            )
        return out

    def _label(self, key: str, number: Any, name: Any, classes: tuple[str, ...]) -> int | None:
        if isinstance(number, str):
            number, name = None, number
        if number is None and name is None:
            return None
        label = int(number) if number is not None else classes.index(name) if name in classes else -1
        if not 0 <= label < len(classes):
            said = name if number is None else number
            raise ManifestError(f"{key} of {self.path} is of class {said!r}, which is none of {len(classes)}")
        return label

    def _pictures(self) -> tuple[Pictures, list[Any]] | None:
        """Return the files that a column of names leads to."""
        word = self.words["image"] or self.words["video"]
        if word is None or word in self._bulky:
            return None
        place = self.path.parent.parent if self.path.parent.name == "data" else self.path.parent
        return Pictures(place, PICTURES + VIDEOS), self.column(word)

    def _bodies(self, number: int, pictures: tuple[Pictures, list[Any]] | None) -> tuple[Body, ...]:
        if pictures:
            return (FileBody(pictures[0].find(str(pictures[1][number]))),)
        word = self.words["video"] or self.words["image"]
        return (CellBody(self._cells, word, number),) if word else ()


def _is_bulky(kind: pa.DataType) -> bool:
    """Say whether a column holds files: bytes, or anything with bytes in it."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    return any(_is_bulky(kind.field(number).type) for number in range(kind.num_fields))


def _word(part: str, names: Sequence[str], called: Mapping[str, str]) -> str | None:
    if part in called:
        if called[part] and called[part] not in names:
            raise ManifestError(f"there is no column {called[part]!r} for the {part}, only {', '.join(names)}")
        return called[part] or None
    return next((word for word in WORDS[part] if word in names), None)


def _hugging_face_names(schema: pa.Schema, label: str | None) -> tuple[str, ...]:
    """Return the classes that Hugging Face's datasets write into a file's metadata."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return tuple(told["info"]["features"][label]["names"])
    except (ValueError, KeyError, TypeError):
        return ()


def _keys_are_unique(tables: Sequence[_Table]) -> bool:
    keys = [table.keys() for table in tables]
    known = [key for each in keys if each is not None for key in each]
    return None not in keys and len(set(known)) == len(known)


def _classes(tables: Sequence[_Table], request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names and ids of the classes in the order of labels; rows of all splits are asked for them.

    Raises:
        ManifestError: A label has two names.
    """
    names: dict[int, str] = {}
    ids: dict[int, str] = {}
    words: set[str] = set()
    for table in tables:
        labels, named, called = table.part("label"), table.part("class_name"), table.part("class_id")
        for number in range(len(table.light)):
            label = labels[number] if labels else None
            if not isinstance(label, int):
                words |= {str(each) for each in (label, named and named[number]) if each is not None}
                continue
            name = str(named[number]) if named else names.get(label, str(label))
            if names.setdefault(label, name) != name:
                raise ManifestError(
                    f"{table.path} calls class {label} both {names[label]!r} and {name!r}; mend a row"
                )
            if called:
                ids[label] = str(called[number])
    told = next((table.told_names for table in tables if table.told_names), ()) or request.benchmark.class_names
    count = 1 + max(names, default=-1)
    found = told or tuple(names.get(label, str(label)) for label in range(count)) or tuple(sorted(words))
    return found, tuple(ids.get(label, "") for label in range(count)) if ids else ()
