"""Pictures that are on this machine already, in a folder or a WebDataset tar, read one by one."""

import json
import tarfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_CAPTIONS = (".txt", ".json")


def _files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield (name, what reads it before the next is asked for) of all files."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file():
                yield str(file.relative_to(path)), file.read_bytes
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and (opened := tar.extractfile(member)):
                yield member.name, partial(opened.read)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def captions_of(path: Path) -> list[tuple[str, str]]:
    """Return (name, caption) of the pictures in a folder or WebDataset tar, sorted by name; reads no picture.

    A caption is the `.txt` beside the picture, else `caption` or the first of `captions` in the `.json`.
    """
    names: list[str] = []
    texts: dict[str, bytes] = {}
    for name, read in _files(path):
        if _suffix(name) in SUFFIXES:
            names.append(name)
        elif _suffix(name) in _CAPTIONS:
            texts[name] = read()
    return [(name, _caption(texts, name.rpartition(".")[0])) for name in sorted(names)]


def pictures_named(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return those of the named pictures that are in a folder or tar; a name that leads out of it is none."""
    wanted = {name for name in names if _suffix(name) in SUFFIXES}
    if not path.is_dir():
        return {name: read() for name, read in _files(path) if name in wanted}
    inside = (name for name in wanted if not name.startswith("/") and ".." not in PurePosixPath(name).parts)
    return {name: (path / name).read_bytes() for name in inside if (path / name).is_file()}


def _caption(texts: dict[str, bytes], stem: str) -> str:
    if text := texts.get(f"{stem}.txt"):
        return text.decode("utf-8", "replace").strip()
    if data := texts.get(f"{stem}.json"):
        try:
            facts: Any = json.loads(data)
        except ValueError:
            return ""
        if isinstance(facts, dict):
            several = facts.get("captions")
            return str(facts.get("caption") or (several[0] if isinstance(several, list) and several else ""))
    return ""
