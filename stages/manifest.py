"""What a finished stage leaves behind: its parts, inputs and parameters, and where every row went."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.storage import Store
from stages.aliases import promoted
from stages.errors import ManifestError as ManifestError
from stages.errors import Missing
from stages.ref import Ref

SCHEMA = 1


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sealed(value: dict[str, Any]) -> bytes:
    """Return a document as canonical JSON that carries the digest of the rest of itself."""
    return canonical({**value, "digest": digest_of(value)})


def unsealed(data: bytes) -> dict[str, Any]:
    """Return a sealed document; one of before there were seals is taken as it is.

    Raises:
        ValueError: It is not JSON, or something in it changed after it was written.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    seal = value.pop("digest", None)
    if seal is not None and seal != digest_of(value):
        raise ValueError("something in it changed after it was written")
    return value


class LedgerError(ManifestError):
    """Rows went missing or came from nowhere."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Frozen):
    """One published file; its name holds the first half of its hash."""

    name: str
    bytes: int
    sha256: str


class Ledger(_Frozen):
    """Every listed row ends in exactly one of kept, rejected, failed."""

    listed: int = Field(ge=0)
    kept: int = Field(ge=0)
    rejected: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)

    def __add__(self, other: "Ledger") -> "Ledger":
        """Add two ledgers row by row."""
        return Ledger(
            listed=self.listed + other.listed,
            kept=self.kept + other.kept,
            rejected=self.rejected + other.rejected,
            failed=self.failed + other.failed,
        )

    def check(self, what: str) -> None:
        """Raise LedgerError unless listed = kept + rejected + failed."""
        if self.listed != self.kept + self.rejected + self.failed:
            raise LedgerError(
                f"{what}: the ledger does not close: listed {self.listed} != kept {self.kept} "
                f"+ rejected {self.rejected} + failed {self.failed}; nothing was committed"
            )


class Part(_Frozen):
    """One unit of work, bound to the hash of its input slice; `files` maps a role to what was published."""

    key: str
    input_digest: str
    ledger: Ledger
    files: dict[str, File]
    facts: dict[str, Any] = Field(default_factory=dict)


class Manifest(_Frozen):
    """The truth about one artifact: it exists means the artifact is whole.

    Nothing in here depends on clocks, hosts or worker counts, so equal work gives an equal
    digest. Facts of one run (duration, host) live beside it in `run.json`.
    """

    schema_version: int = SCHEMA
    ref: Ref
    stage: str
    identity: dict[str, Any]
    ledger: Ledger
    parts: tuple[Part, ...]
    totals: dict[str, Any] = Field(default_factory=dict)
    reports: dict[str, File] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over the whole manifest: the version that others depend on."""
        return digest_of(self.model_dump(mode="json"))

    def key(self, file: File) -> str:
        """Return the store key of one of the artifact's files."""
        return self.ref.key(file.name)

    def files(self) -> list[File]:
        """Return all published files, parts first."""
        return [file for part in self.parts for file in part.files.values()] + list(self.reports.values())


def find(store: Store, ref: Ref) -> Manifest | None:
    """Return the manifest of a finished artifact, None where it is not finished."""
    key = ref.key("manifest.json")
    try:
        data = store.read(key)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        manifest = Manifest.model_validate(unsealed(data))
        if manifest.ref != ref:
            raise ValueError(f"it is the manifest of {manifest.ref}")
        return manifest
    except ValueError as error:
        raise ManifestError(f"{key} cannot be read: {error}; remove it and run the stage again") from error


def load(store: Store, ref: Ref) -> Manifest:
    """Return the manifest of a finished artifact, or of the one that an alias (`name@promoted`) means.

    Raises:
        Missing: It does not stand; the message lists the versions that do.
        ManifestError: It is damaged, or the alias means what is gone.
    """
    if manifest := find(store, ref):
        return manifest
    if manifest := _meant(store, ref):
        return manifest
    raise Missing(f"{ref} is not in {store.root}; {_known(store, ref.name)}", ref.name, ref.version)


def finished_versions(store: Store, name: str) -> list[str]:
    """Return the versions of an artifact that stand, sorted."""
    return [version for version in store.folders(name) if store.exists(f"{name}/{version}/manifest.json")]


def _known(store: Store, name: str) -> str:
    """Return what stands instead of a version: others of this name, else other names beside it."""
    if versions := finished_versions(store, name):
        return f"finished versions: {', '.join(versions)}"
    folder, _, own = name.rpartition("/")
    beside = [each for each in store.folders(folder) if each != own and finished_versions(store, f"{folder}/{each}")]
    named = f", only of {', '.join(f'{folder}/{each}' for each in beside)}" if folder and beside else ""
    return f"no version of it is finished{named}"


def find_digest(store: Store, name: str, digest: str, version: str) -> Manifest | None:
    """Return the artifact that another one was made from; None where it is gone or was made anew since.

    Args:
        store: Where to look.
        name: Its name.
        digest: Of its manifest.
        version: Which version to look at first.
    """
    for each in sorted(store.folders(name), key=lambda other: (other != version, other)):
        manifest = find(store, Ref(name=name, version=each))
        if manifest is not None and manifest.digest == digest:
            return manifest
    return None


def _meant(store: Store, alias: Ref) -> Manifest | None:
    """Return what an alias means, None where there is no such alias."""
    promotion = promoted(store, alias)
    if promotion is None:
        return None
    ref = Ref(name=alias.name, version=promotion.version)
    manifest = find(store, ref)
    if manifest is None or manifest.digest != promotion.digest:
        what = "is not there any more" if manifest is None else "was made anew since"
        raise ManifestError(
            f"{alias} means {ref}, which {what}; look at it, then: internvl checkpoints promote {ref} "
            f"--name {alias.version}"
        )
    return manifest


def verify(store: Store, manifest: Manifest) -> list[str]:
    """Read every byte back; return one sentence per file that is missing or differs, and check the ledger."""
    wrong = []
    there = store.files(manifest.ref.folder)
    for file in manifest.files():
        key = manifest.key(file)
        if key not in there:
            wrong.append(f"{key} is missing")
        elif (found := store.sha256(key)) != file.sha256:
            wrong.append(f"{key} differs from its manifest: sha256 {found[:16]}, not {file.sha256[:16]}")
    try:
        manifest.ledger.check(str(manifest.ref))
    except LedgerError as error:
        wrong.append(str(error))
    return wrong


def finished(keys: Iterable[str]) -> Iterator[Ref]:
    """Yield the artifacts that are finished among all keys of a store: those with a manifest."""
    for key in keys:
        folder, _, file = key.rpartition("/")
        name, _, version = folder.rpartition("/")
        if file == "manifest.json" and name:
            try:
                yield Ref(name=name, version=version)
            except ValueError:
                continue  # a file of somebody else's
