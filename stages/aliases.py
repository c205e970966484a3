"""A name that can move: `checkpoints/contrastive@promoted` is the version that was promoted last.

Each promotion is a file of its own, numbered and written only where none stands: of two at once one
wins, and what an alias meant before is never lost.
"""

from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from infra.storage import StorageError, Store
from stages.errors import ManifestError
from stages.ref import Ref

LATEST, PROMOTED = "latest", "promoted"
FOLDER = "aliases"
RESERVED = {
    LATEST: "the newest version",
    PROMOTED: "the version that was promoted last",
    FOLDER: "the folder of promoted names",
}
"""What these mean wherever a version is read, so that nothing may be written under them."""


class Promotion(BaseModel):
    """An alias that began to mean a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str
    version: str
    digest: str
    """Of the version's manifest: a version that was made anew since is not what was promoted."""
    previous: str | None = None
    """The version that it meant before."""
    at: float
    """Seconds since 1970 by the store's clock; for people, nothing is ordered by it."""


def refuse_reserved(ref: Ref) -> None:
    """Refuse to write under a name that means something else wherever a version is read.

    Raises:
        ManifestError: It is one.
    """
    if meaning := RESERVED.get(ref.version):
        raise ManifestError(
            f"{ref} cannot be made: where a version is read, {ref.version!r} means {meaning}; give the result "
            "another name"
        )


def promotions(store: Store, alias: Ref) -> list[Promotion]:
    """Return what `name@alias` has meant, the newest last.

    Raises:
        ManifestError: A file is not what a promotion writes.
    """
    return [_parsed(store, key) for key in _keys(store, alias)]


def promoted(store: Store, alias: Ref) -> Promotion | None:
    """Return what `name@alias` means now, None where there is no such alias.

    Raises:
        ManifestError: Its file is not what a promotion writes.
    """
    keys = _keys(store, alias)
    return _parsed(store, keys[-1]) if keys else None


def promote(store: Store, alias: Ref, version: str, digest: str) -> Promotion:
    """Let `name@alias` mean a version.

    Raises:
        StorageError: Somebody else promoted at the same time; theirs stands.
        ManifestError: A file is not what a promotion writes.
    """
    keys = _keys(store, alias)
    before = promotions(store, alias)
    promotion = Promotion(
        alias=alias.version,
        version=version,
        digest=digest,
        previous=before[-1].version if before else None,
        at=store.now(),
    )
    # Not how many there are: a damaged one may have been removed.
    last = int(PurePosixPath(keys[-1]).stem) if keys else 0
    key = alias_key(alias, f"{last + 1:06d}.json")
    if not store.create(key, promotion.model_dump_json().encode()):
        raise StorageError(f"{alias} was promoted by somebody else just now; look at it, then promote again")
    return promotion


def alias_key(alias: Ref, file: str) -> str:
    """Return the store key of an alias's file."""
    return f"{alias.name}/{FOLDER}/{alias.version}/{file}"


def _keys(store: Store, alias: Ref) -> list[str]:
    return store.keys(f"{alias.name}/{FOLDER}/{alias.version}")


def _parsed(store: Store, key: str) -> Promotion:
    try:
        return Promotion.model_validate_json(store.read(key))
    except ValueError as error:
        raise ManifestError(f"{key} cannot be read: {error}; remove it, and promote again") from error
