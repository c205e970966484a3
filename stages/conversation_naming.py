"""Which sources of instruction data a file holds: told by what is in it, or listed in an official meta JSON."""

import json
import posixpath
import re
from pathlib import Path
from typing import IO, Any

from infra.storage import Store
from stages.conversation_pictures import STORE
from stages.conversation_sources import OwnConversations
from stages.manifest import ManifestError

_UNNAMED = re.compile(r"[^0-9a-z_]+")


def named(path: str, store: Store, root: str | None = None) -> tuple[OwnConversations, ...]:
    """Return the sources in a file, their format told by what the file holds.

    Args:
        path: Meta JSON, annotations, or VQAv2's questions and annotations with a comma between them.
        store: Where paths that begin with store:// lie.
        root: Where picture names start; of a meta file, what its paths are relative to.

    Raises:
        ManifestError: It is missing, or none of the formats.
    """
    # A name may hold a comma itself.
    questions, comma, answers = (path, "", "") if _is_file(path, store) else path.partition(",")
    for each in (questions, answers) if comma else (questions,):
        if not _is_file(each, store):
            raise ManifestError(f"there is no file {each}; instruction data is a file of one of the formats")
    kind = _format(questions, store)
    if kind == "meta":
        return expanded(questions, store, root)
    if kind == "vqa" and not comma:
        raise ManifestError(f"{path} holds VQAv2's questions; name its annotations too: {path},ANNOTATIONS.json")
    return (
        OwnConversations(
            name=_named(Path(questions).stem), format=kind, path=questions, answers=answers or None, root=root
        ),
    )


def _named(text: str) -> str:
    """Return the name that an artifact may have."""
    return _UNNAMED.sub("_", text.lower()).strip("_")[:60] or "own"


def _is_file(path: str, store: Store) -> bool:
    return store.exists(path.removeprefix(STORE)) if path.startswith(STORE) else Path(path).is_file()


def _open(path: str, store: Store) -> IO[bytes]:
    return store.open(path.removeprefix(STORE)) if path.startswith(STORE) else open(path, "rb")


def _format(path: str, store: Store) -> Any:
    """Return a file's format, or `meta`."""
    by_suffix = {".jsonl": "jsonl", ".parquet": "rows", ".tar": "qa_tar"}
    if found := by_suffix.get(Path(path).suffix):
        return found
    with _open(path, store) as file:
        head = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"["):
        return "llava"
    if head.startswith(b"{") and b'"annotation"' in head:
        return "meta"
    if head.startswith(b"{") and b'"questions"' in head:
        return "vqa"
    raise ManifestError(
        f"{path} is no instruction data that is known here: no meta JSON, .jsonl, array of rows, VQAv2 questions, "
        "parquet or tar; docs/how-to/instruct-on-your-own-data.md shows each"
    )


def expanded(path: str, store: Store, base: str | None = None) -> tuple[OwnConversations, ...]:
    """Return the sources of an official meta JSON: an object of {root, annotation, ...} by name.

    Args:
        path: The meta file.
        store: Where it lies if its path begins with store://.
        base: What its relative paths start from; the meta file's own folder when left out.

    Raises:
        ManifestError: It is not JSON, or a source of it is not as the format wants it.
    """
    try:
        with _open(path, store) as file:
            told = json.loads(file.read().decode("utf-8-sig"))
        if not isinstance(told, dict) or not told:
            raise ValueError("it is no object of sources by name")
        return tuple(_source(name, each, base or _folder(path)) for name, each in told.items())
    except ValueError as error:
        raise ManifestError(f"meta file {path}: {error}") from error


def _folder(path: str) -> str:
    scheme, mark, rest = path.rpartition("://")
    return f"{scheme}{mark}{posixpath.dirname(rest)}"


def _below(base: str, name: str) -> str:
    """Return where a name leads from a folder; a whole path or address leads where it says."""
    if "://" in name:
        return name
    scheme, mark, rest = base.partition("://")
    if mark and not name.startswith("/"):  # pathlib would make one slash of two
        return f"{scheme}{mark}{posixpath.normpath(posixpath.join(rest, name))}"
    return str(Path(base, name))


def _source(name: str, told: Any, base: str) -> OwnConversations:
    if not isinstance(told, dict) or not isinstance(told.get("annotation"), str):
        raise ValueError(f"source {name!r} names no annotation")
    if not told["annotation"].endswith(".jsonl"):
        raise ValueError(f"source {name!r}: the annotation {told['annotation']} must end in .jsonl")
    known = {"root", "annotation", "data_augment", "repeat_time", "length", "max_dynamic_patch"}
    if foreign := sorted(set(told) - known):
        raise ValueError(f"source {name!r} has {foreign[0]!r}; known are {', '.join(sorted(known))}")
    return OwnConversations(
        name=_named(name),
        format="jsonl",
        path=_below(base, told["annotation"]),
        root=_below(base, told["root"]) if told.get("root") else None,
        repeat=told.get("repeat_time", 1),
        data_augment=told.get("data_augment", False),
        max_dynamic_patch=told.get("max_dynamic_patch"),
    )
