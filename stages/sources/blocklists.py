"""Lists of addresses and domains that an operator does not want to be asked for."""

import hashlib
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from stages.manifest import ManifestError
from stages.sources.columns import is_bytes, is_text
from stages.sources.identity import canonical, canonical_host, url_id_of
from stages.sources.pieces import file_name
from stages.sources.reading import open_list, resolve
from stages.unreadable import reading

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:]+")


@dataclass(frozen=True)
class BlockLists:
    """Addresses by name and by hash, and domains with everything below them."""

    url_ids: frozenset[bytes] = frozenset()
    digests: frozenset[bytes] = frozenset()
    domains: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Say whether anything is on them."""
        return bool(self.url_ids or self.digests or self.domains)

    def blocks(self, url: str, host: str, url_id: bytes) -> str | None:
        """Return why a canonical address is refused, None where it is not."""
        if url_id in self.url_ids or (
            self.digests and hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest() in self.digests
        ):
            return "blocked_url"
        return "blocked_domain" if self.domains and self.below(host) else None

    def address(self, url: str) -> bool:
        """Say whether an address is listed itself, however it is spelt."""
        spelt, host = canonical(url)
        return self.blocks(spelt, host, url_id_of(url)) == "blocked_url"

    def below(self, host: str) -> bool:
        """Say whether a host is one of the domains, or lies below one."""
        # Whole labels alone: `ample.com` does not name `example.com`.
        name = host.rstrip(".")
        while name:
            if name in self.domains:
                return True
            name = name.partition(".")[2]
        return False


def load(urls: tuple[str, ...], domains: tuple[str, ...]) -> BlockLists:
    """Read block-lists.

    Args:
        urls: Files or globs: text with one address a line, or parquet with them in its first column; 64 hexadecimal
            digits are the SHA-256 of a canonical address. `#` begins a comment line.
        domains: The same with domains; `example.com` also names `a.example.com`.

    Raises:
        ManifestError: A file cannot be read, or a line is no address or no domain.
    """
    lines = [_address(line, where) for path in resolve(urls) for where, line in _lines(path)]
    hexadecimal = {line for line in lines if _SHA256.fullmatch(line)}
    return BlockLists(
        url_ids=frozenset(url_id_of(line) for line in lines if line not in hexadecimal),
        digests=frozenset(bytes.fromhex(line) for line in hexadecimal),
        domains=frozenset(_domain(line, where) for path in resolve(domains) for where, line in _lines(path)),
    )


def _address(line: str, where: str) -> str:
    # Anything else names no address that is ever asked, and would block nothing without a word.
    if not (_SHA256.fullmatch(line) or canonical(line)[1]):
        raise ManifestError(
            f"{where}: {line[:80]!r} is no address; write it with http:// or https://, or as the 64 hexadecimal "
            "digits of its SHA-256, and domains in block_domains"
        )
    return line


def _domain(line: str, where: str) -> str:
    name = canonical_host(line.removeprefix("*.").strip("."))
    if not _NAME.fullmatch(name):
        raise ManifestError(
            f"{where}: {line[:80]!r} is no domain; write it as example.com, and addresses in block_urls"
        )
    return name


def _lines(path: str) -> list[tuple[str, str]]:
    """Return (where it stands, line) of all lines that are neither empty nor remarks."""
    with reading(path), open_list(path) as file:
        if file_name(path).endswith(".parquet"):
            table = pq.read_table(file)
            column = table.column(0)
            if not (is_text(column.type) or is_bytes(column.type)):
                raise ManifestError(f"{path}: its first column holds {column.type}; give text")
            values = column.cast(pa.string()).to_pylist()
        else:
            values = file.read().decode("utf-8-sig").splitlines()
    stripped = ((f"{path} line {number}", (value or "").strip()) for number, value in enumerate(values, start=1))
    return [(where, line) for where, line in stripped if line and not line.startswith("#")]
