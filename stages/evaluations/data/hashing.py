"""SHA-256 of a dataset's files, each read once: what was hashed is remembered until the file changes."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[float, float, str], None]
"""done, total, unit"""

_SETTLED_SECONDS = 2.0
"""A file that changed less long ago may change again within the same tick of the clock: it is not remembered."""
_PIECE = 1 << 20
MISSING = "missing"


def quiet(done: float, total: float, unit: str) -> None:
    """Tell nobody."""


class Hashes:
    """Digests of files below one place.

    They are remembered by path, size and both times of change, one of which no program can set back.
    """

    def __init__(self, place: Path, cache: Path | None) -> None:
        """Read what is remembered; nothing is where `cache` is left out."""
        self._place = place.resolve()
        name = hashlib.sha256(str(self._place).encode()).hexdigest()[:32]
        self._file = cache / f"hashes-{name}.json" if cache else None
        self._known = _remembered(self._file) if self._file else {}
        self._changed = False
        # An archive is asked for once per example; within one run it is read once even where it is not remembered.
        self._now: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the digest of a file, or `missing`."""
        if path not in self._now:
            self._now[path] = self._of(path)
        return self._now[path]

    def _of(self, path: Path) -> str:
        try:
            about = path.stat()
        except OSError:
            return MISSING
        name = os.path.relpath(path.resolve(), self._place)
        state = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        known = self._known.get(name)
        if known and known[:3] == state:
            return str(known[3])
        digest = _sha256(path)
        if time.time() - about.st_ctime > _SETTLED_SECONDS:
            self._known[name] = [*state, digest]
            self._changed = True
        return digest

    def keep(self) -> None:
        """Write what was hashed, whole or not at all."""
        if self._file and self._changed:
            write_whole(self._file, json.dumps(self._known))
            self._changed = False


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader finds all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest()


def _remembered(file: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Nothing is lost with it but time: every file is hashed again.
        return {}
    return {
        name: entry
        for name, entry in (known.items() if isinstance(known, dict) else ())
        if isinstance(entry, list) and len(entry) == 4
    }
