"""An operator's lists: pictures that must never be stored, addresses never asked for; the project ships none."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

import fsspec

from stages.manifest import ManifestError, digest_of
from stages.sources.blocklists import BlockLists, load
from stages.sources.reading import resolve
from stages.unreadable import reading

_BODY, _PICTURE = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class BlockList:
    """Hashes of bodies (SHA-256) and of pictures (64-bit perceptual hash)."""

    bodies: frozenset[str] = frozenset()
    pictures: frozenset[int] = frozenset()

    def body(self, sha256: str) -> bool:
        """Say whether exactly these bytes are listed."""
        return sha256 in self.bodies

    def picture(self, phash: int) -> bool:
        """Say whether a picture is listed: the same one in another size or encoding, mostly."""
        return phash in self.pictures


def digest_of_list(path: str) -> str:
    """Return the SHA-256 of a list as it lies there now.

    Raises:
        ManifestError: It cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


@lru_cache(maxsize=2)
def read_blocked(path: str, digest: str) -> BlockList:
    """Read a list: one hash a line, 64 hexadecimal digits for a body, 16 for a picture; `#` begins a remark.

    Args:
        path: On this machine, `s3://` or `https://`; every worker reads it.
        digest: What its bytes must hash to, so that all workers block the same.

    Raises:
        ManifestError: It cannot be read, is not the list that the run began with, or holds a line that is no hash.
    """
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ManifestError(f"{path} is not the list that this run began with; put it back, or start the run again")
    bodies, pictures = set(), set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        word = line.partition("#")[0].strip().lower()
        if _BODY.fullmatch(word):
            bodies.add(word)
        elif _PICTURE.fullmatch(word):
            pictures.add(int(word, 16))
        elif word:
            raise ManifestError(
                f"{path} line {number} is no hash; give 64 hexadecimal digits (sha256 of the file that a server "
                "sends) or 16 (perceptual hash of the picture)"
            )
    return BlockList(frozenset(bodies), frozenset(pictures))


def digest_of_addresses(urls: tuple[str, ...], domains: tuple[str, ...]) -> str:
    """Return the hash of block-lists of addresses and of domains as they lie there now.

    Raises:
        ManifestError: One of them cannot be read.
    """
    return digest_of(
        [[hashlib.sha256(_read(path)).hexdigest() for path in resolve(each)] for each in (urls, domains)]
    )


@lru_cache(maxsize=2)
def read_addresses(urls: tuple[str, ...], domains: tuple[str, ...], digest: str) -> BlockLists:
    """Read block-lists of addresses and of domains.

    Raises:
        ManifestError: They cannot be read, or are not those that the run began with.
    """
    if digest_of_addresses(urls, domains) != digest:
        raise ManifestError(
            f"{', '.join(urls + domains)} are not the block-lists that this run began with; put them back, or start "
            "the run again"
        )
    return load(urls, domains)


def _read(path: str) -> bytes:
    with reading(path), fsspec.open(path, "rb") as file:
        return bytes(file.read())
