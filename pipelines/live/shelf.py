"""What stands in a store and what is being made, read so cheaply that a page may ask every few seconds.

A manifest is read anew only when its seal changed; folders that no artifact can lie in are not walked into.
"""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from infra.storage import Store
from pipelines.live.cells import Cell, cells_of
from stages.failures import Failure, failure_of
from stages.manifest import Ledger, Manifest, ManifestError, find
from stages.materialize import StageSpec
from stages.output import READERS
from stages.pace import Pace
from stages.ref import Ref

SEAL_BYTES = 80
"""A sealed document begins with its digest; so much of it tells whether it is another one."""
DEEPEST = 5
"""Most folders above a version."""
MOST_MARKERS = 10_000
"""Parts of an unfinished artifact that are listed by name at each look."""
PART_UNITS = ("parts", "shards")
"""Units of progress that are parts."""
NO_ARTIFACTS = frozenset({"specs", "attached", "aliases", "leases", "tmp"})
INSIDE = frozenset({"parts", "markers", "state", "reports", "reports-live", "training"})
"""Folders inside of an artifact: where one of them lies is a version, finished or not."""


@dataclass(frozen=True)
class Finished:
    """What pages show of a manifest."""

    ref: Ref
    stage: str
    digest: str
    ledger: Ledger
    parts: int
    inputs: dict[str, str]
    """Digest by name of an artifact."""
    pages: dict[str, str]
    """Key by what the page is."""
    cells: tuple[Cell, ...]
    ended: float = 0.0
    """When it was finished, seconds since 1970; 0 where nothing says."""


@dataclass(frozen=True)
class Begun:
    """An artifact that a run has asked for and that does not stand."""

    ref: Ref
    stage: str
    inputs: tuple[Ref, ...]
    pace: Pace | None
    failure: Failure | None
    made: tuple[str, ...]
    """Keys of the parts that stand; none where they are too many to list, and progress alone counts them."""

    @property
    def made_parts(self) -> int:
        """How many parts stand; 0 where nothing tells."""
        told = self.pace.done if self.pace is not None and self.pace.unit in PART_UNITS else 0
        return len(self.made) or round(told)


@dataclass(frozen=True)
class View:
    """One look at a store."""

    finished: tuple[Finished, ...] = ()
    begun: tuple[Begun, ...] = ()
    unreadable: tuple[str, ...] = field(default=())
    """What is wrong with manifests that cannot be read."""


class Shelf:
    """Looks at a store, and remembers what it saw."""

    def __init__(self, store: Store, patience_seconds: float | None = None) -> None:
        """Look at nothing yet.

        Args:
            store: Where artifacts lie.
            patience_seconds: How old a look may be that is given again; by the kind of store if left out.
        """
        self._store = store
        self._patience = patience_seconds if patience_seconds is not None else (15.0 if store.remote else 2.0)
        self._lock = threading.Lock()
        self._seals: dict[str, tuple[bytes, Finished | None]] = {}
        self._specs: dict[str, StageSpec | None] = {}
        self._last: tuple[float, View] | None = None

    def look(self) -> View:
        """Return what stands and what is being made; of two that ask at once, one waits for the other's look."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > self._patience:
                self._last = now, self._look()
            return self._last[1]

    def _look(self) -> View:
        asked = self._asked()
        folders = sorted({*self._versions(), *(ref.folder for ref in asked)})
        with ThreadPoolExecutor(READERS if self._store.remote else 1) as readers:
            read = list(readers.map(self._read, folders))
        finished = [each for each in read if isinstance(each, Finished)]
        standing = {each.ref for each in finished}
        return View(
            finished=tuple(sorted(finished, key=lambda each: str(each.ref))),
            begun=tuple(self._begun(asked[ref]) for ref in sorted(asked, key=str) if ref not in standing),
            unreadable=tuple(each for each in read if isinstance(each, str)),
        )

    def _asked(self) -> dict[Ref, StageSpec]:
        """Return what runs have asked for; of several specifications of one artifact, any."""
        before, self._specs = self._specs, {}
        for key in self._store.keys("specs"):
            try:
                self._specs[key] = before[key] if key in before else self._spec(key)
            except FileNotFoundError:
                continue  # gone since it was listed
        return {spec.artifact: spec for spec in self._specs.values() if spec}

    def _spec(self, key: str) -> StageSpec | None:
        """Return a specification, None where it is of another version of this program."""
        try:
            return StageSpec.model_validate_json(self._store.read(key))
        except ValueError:
            return None

    def _versions(self, prefix: str = "", depth: int = 0) -> Iterator[str]:
        for name in self._store.folders(prefix) if prefix else self._top():
            folder = f"{prefix}/{name}" if prefix else name
            if _manifest(folder) in self._seals or self._is_version(folder):
                yield folder
            elif depth < DEEPEST:
                yield from self._versions(folder, depth + 1)

    def _top(self) -> list[str]:
        return [name for name in self._store.folders() if name not in NO_ARTIFACTS and not name.startswith(".")]

    def _is_version(self, folder: str) -> bool:
        if self._store.exists(_manifest(folder)):
            return True
        return bool(INSIDE & set(self._store.folders(folder)))

    def _read(self, folder: str) -> Finished | str | None:
        """Return what a version holds, a sentence where its manifest cannot be read, None where it has none."""
        key = _manifest(folder)
        try:
            seal = self._store.read_range(key, 0, SEAL_BYTES)
            before, known = self._seals.get(key, (b"", None))
            if known and before == seal:
                return known
            name, _, version = folder.rpartition("/")
            manifest = find(self._store, Ref(name=name, version=version))
        except FileNotFoundError:
            self._seals.pop(key, None)
            return None
        except (ManifestError, ValueError) as error:
            return str(error)
        if manifest is None:
            return None
        shown = self._shown(manifest)
        # Its times are written after it: where they lack at the first sight they may only be late.
        self._seals[key] = seal, shown if shown.ended or before == seal else None
        return shown

    def _shown(self, manifest: Manifest) -> Finished:
        try:
            run = json.loads(self._store.read(manifest.ref.key("run.json")))
        except (FileNotFoundError, ValueError):
            run = {}
        return Finished(
            ref=manifest.ref,
            stage=manifest.stage,
            digest=manifest.digest,
            ledger=manifest.ledger,
            parts=len(manifest.parts),
            inputs={name: str(digest) for name, digest in manifest.identity.get("inputs", {}).items()},
            pages={
                role: manifest.key(file) for role, file in manifest.reports.items() if file.name.endswith(".html")
            },
            cells=cells_of(manifest),
            ended=float(run["started"]) + float(run.get("seconds", 0)) if "started" in run else 0.0,
        )

    def _begun(self, spec: StageSpec) -> Begun:
        ref = spec.artifact
        try:
            pace = Pace.of(json.loads(self._store.read(ref.key("progress.json"))))
        except (FileNotFoundError, ValueError, KeyError):
            pace = None
        made: set[str] = set()
        if pace is None or pace.total <= MOST_MARKERS:
            names = (key.rpartition("/")[2] for key in self._store.keys(ref.key("markers")))
            made = {name.rsplit("-", 2)[0] for name in names}
        return Begun(ref, spec.stage, spec.inputs, pace, failure_of(self._store, ref), tuple(sorted(made)))


def _manifest(folder: str) -> str:
    return f"{folder}/manifest.json"
