"""Find what killed runs left in the store: files that no manifest and no marker counts.

Nothing that a manifest references is ever named here, and nothing younger than the grace: a running
job shows a part's files before the marker that counts them.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from infra.disk_files import is_temporary
from infra.storage import Entry, Store
from stages.evaluations.memory import PREFIX, folder_of
from stages.manifest import ManifestError, Part, digest_of, find, finished, unsealed
from stages.ref import Ref

DAY_SECONDS = 86_400.0
_MARKER = re.compile(r"(?P<folder>.+)/markers/.+-(?P<config>[0-9a-f]{12})-[^-/]{1,12}\.json")
_CONTENT = re.compile(r".+/(?:parts|reports)/.+-[0-9a-f]{16}(?:\.[^/]+)?")
_PRIVATE = re.compile(r"(?P<folder>.+)/(?:state|spill)/.+")
_PROBE = re.compile(r"tmp/probe-[0-9a-f]{32}")


class Kind(StrEnum):
    """Why something is left behind."""

    TEMPORARY = "never finished writing"
    UPLOAD = "multipart upload never completed"
    MARKER = "marker of another configuration"
    TORN = "marker that cannot be read"
    UNCOUNTED = "no manifest and no marker counts it"
    PRIVATE = "working state of a finished artifact"
    REMEMBERED = "what a checkpoint said that is gone"


@dataclass(frozen=True)
class Leftover:
    """One thing to remove, and why."""

    entry: Entry
    kind: Kind
    age_seconds: float


@dataclass
class Sweep:
    """What was found below one folder of a store."""

    leftovers: list[Leftover] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    """Sentences about artifacts whose manifest cannot be read: nothing of theirs is touched."""


def find_leftovers(store: Store, grace_seconds: float = DAY_SECONDS, name: str = "", version: str = "") -> Sweep:
    """List what killed runs left behind.

    Args:
        store: Where to look.
        grace_seconds: Younger things may belong to a running job and are left alone.
        name: Only below this artifact name (`pool`, `pool/coyo`); everything when empty. Below `remembered` lies
            what checkpoints have said, which can always be computed again: by that name all of it is listed.
        version: Only of this version; all when empty.

    Raises:
        ValueError: The name or the version is none that an artifact can have.
    """
    if name or version:
        Ref(name=name or "x", version=version or "x")
    now = store.now()
    # The listing comes first: what is counted between it and the reading of the markers is spared.
    there = list(store.entries(name))
    counted = _Counted(store, there)
    found = Sweep(spared=counted.spared)
    for entry in there:
        kind = counted.judge(entry)
        age = now - entry.modified
        if kind and age >= grace_seconds and (not version or f"/{version}/" in f"/{entry.key}"):
            found.leftovers.append(Leftover(entry, kind, age))
    # A marker goes before the files that it counts, so that no marker ever names a file that is gone.
    found.leftovers.sort(key=lambda each: (each.kind is not Kind.MARKER, each.entry.key))
    return found


def remove_leftovers(store: Store, leftovers: list[Leftover]) -> list[Leftover]:
    """Remove what was found, unless somebody wrote or touched it since; return what went."""
    return [each for each in leftovers if store.discard([each.entry])]


class _Counted:
    """What the manifests and markers of a listing count."""

    def __init__(self, store: Store, there: list[Entry]) -> None:
        """Read all manifests, and the markers of artifacts that are not finished."""
        self.files: set[str] = set()
        self.spared: list[str] = []
        self._unread: set[str] = set()
        self._torn: set[str] = set()
        self._configurations: dict[str, str] = {}
        self._remembering: set[str] = set()
        whole = [entry.key for entry in there if not entry.upload]
        for ref in finished(whole):
            self._read_manifest(store, ref)
        for key in whole:
            match = _MARKER.fullmatch(key)
            if match and match["folder"] not in self._configurations:
                self._read_marker(store, key, match["folder"])

    def _read_manifest(self, store: Store, ref: Ref) -> None:
        try:
            manifest = find(store, ref)
        except ManifestError as error:
            self.spared.append(str(error))
            self._unread.add(ref.folder)
            return
        if manifest is not None:
            self.files.update(manifest.key(file) for file in manifest.files())
            self._configurations[ref.folder] = digest_of(manifest.identity)[:12]
            if ref.name.startswith("checkpoints/"):
                self._remembering.add(folder_of(manifest.digest))

    def _read_marker(self, store: Store, key: str, folder: str) -> None:
        try:
            part = Part.model_validate(unsealed(store.read(key)))
        except FileNotFoundError:
            return
        except ValueError:
            self._torn.add(key)
            return
        self.files.update(f"{folder}/{file.name}" for file in part.files.values())

    def judge(self, entry: Entry) -> Kind | None:
        """Say why an entry is left behind, None where it is not, or where we cannot know."""
        key = entry.key
        if entry.upload:
            return Kind.UPLOAD
        if is_temporary(PurePosixPath(key)) or _PROBE.fullmatch(key):
            return Kind.TEMPORARY
        if key in self.files or any(key.startswith(f"{folder}/") for folder in self._unread):
            return None
        if match := _MARKER.fullmatch(key):
            if key in self._torn:
                return Kind.TORN
            standing = self._configurations.get(match["folder"])
            return Kind.MARKER if standing and standing != match["config"] else None
        if key.startswith(f"{PREFIX}/"):
            return None if key.rpartition("/")[0] in self._remembering else Kind.REMEMBERED
        if _CONTENT.fullmatch(key):
            return Kind.UNCOUNTED
        if (match := _PRIVATE.fullmatch(key)) and match["folder"] in self._configurations:
            return Kind.PRIVATE
        return None
