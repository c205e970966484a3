"""Lists of what must go: kept in the store as hashes, honoured by every later write, counted and never shown."""

import hashlib
import io
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import Store
from stages.manifest import ManifestError
from stages.operator_lists import lines_of
from stages.sources.identity import canonical_host, url_id_of
from stages.workspace import parquet_bytes

FOLDER = "takedowns"
KINDS = ("uid", "url", "domain", "sha256", "phash")
"""In the order in which a sample that several name is counted."""
WAYS = "uid:32 hex digits, url:ADDRESS, domain:NAME, sha256:64 hex digits or phash:16 hex digits"

_HEX = {
    "uid": re.compile(r"[0-9a-f]{32}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "phash": re.compile(r"[0-9a-f]{16}"),
}
_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_NEEDED = {
    "url": ("url_id", "url_id"),
    "domain": ("url_id", "url_id"),
    "sha256": ("body_sha256", "body_sha256, the hash of what the web sent,"),
    "phash": ("phash", "phash"),
}
"""Column that each kind is looked up in, and what the message calls it."""
_SCHEMA = pa.schema([("kind", pa.string()), ("value", pa.binary())])


@dataclass(frozen=True)
class Takedown:
    """What must go, by kind; addresses and domains as hashes, so that a list in the store names nobody."""

    values: Mapping[str, frozenset[bytes]] = field(default_factory=dict)

    def __or__(self, other: "Takedown") -> "Takedown":
        """Return what either list names."""
        return Takedown({kind: self.of(kind) | other.of(kind) for kind in KINDS})

    def of(self, kind: str) -> frozenset[bytes]:
        """Return the entries of one kind."""
        return self.values.get(kind, frozenset())

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(len(self.of(kind)) for kind in KINDS)

    def counts(self) -> dict[str, int]:
        """Return entries per kind, kinds without any left out."""
        return {kind: len(self.of(kind)) for kind in KINDS if self.of(kind)}

    def kinds(self, table: pa.Table, what: str) -> list[str | None]:
        """Return for each sample the kind of entry that names it, None where none does.

        Args:
            table: Samples, as in a shard's index.
            what: Where they are, for the message.

        Raises:
            ManifestError: A column that the list asks for has gaps: a miss must mean "not listed".
        """
        self._check_known(table, what)
        found: list[str | None] = [None] * table.num_rows
        for kind in reversed(KINDS):
            if not (entries := self.of(kind)):
                continue
            for column in _COLUMNS[kind]:
                for number, value in enumerate(table[column].to_pylist()):
                    if value is not None and any(each in entries for each in _NAMES[kind](value)):
                        found[number] = kind
        return found

    def _check_known(self, table: pa.Table, what: str) -> None:
        for kind, (column, name) in _NEEDED.items():
            if self.of(kind) and (gaps := table[column].null_count):
                raise ManifestError(
                    f"a takedown list names samples by {kind}, and {what} does not know the {name} of {gaps} "
                    "samples: their pool was made by an earlier version; make it and what follows from it again, or "
                    "name these samples by uid"
                )


@lru_cache(maxsize=1 << 16)
def _above(host: str) -> tuple[bytes, ...]:
    """Return the hashes of a host and of all domains above it."""
    labels = host.rstrip(".").split(".")
    return tuple(hashlib.sha256(".".join(labels[at:]).encode()).digest() for at in range(len(labels)))


def _itself(value: bytes) -> tuple[bytes, ...]:
    return (value,)


_COLUMNS = {
    "uid": ("uid",),
    "url": ("url_id",),
    "domain": ("host",),
    "sha256": ("sha256", "body_sha256"),
    "phash": ("phash",),
}
_NAMES: dict[str, Callable[[Any], tuple[bytes, ...]]] = {
    **dict.fromkeys(("uid", "url", "sha256"), _itself),
    "domain": _above,
    "phash": lambda value: (value.to_bytes(8, "big"),),
}


def read_list(path: str) -> Takedown:
    """Read an operator's list: one entry a line, or parquet with entries in its first column.

    An entry may say what it is (`domain:example.com`) or be known by its look: an address has a scheme, a uid 32
    hexadecimal digits, a SHA-256 of a picture 64 and a perceptual hash 16, and a name with a dot or an IP address is
    a domain, which names everything below it. `#` begins a comment line. What could be a mistyped number or hash is
    refused, not taken for a domain that nothing is below.

    Raises:
        ManifestError: It cannot be read, is empty, or an entry is none of these; the entry is not shown.
    """
    found: dict[str, set[bytes]] = {kind: set() for kind in KINDS}
    for number, line in lines_of(path):
        kind, value = _entry(line, f"{path} line {number}")
        found[kind].add(value)
    if not any(found.values()):
        raise ManifestError(f"{path} names nothing; give one entry a line: {WAYS}")
    return Takedown({kind: frozenset(values) for kind, values in found.items()})


def _entry(line: str, where: str) -> tuple[str, bytes]:
    kind, colon, value = line.partition(":")
    told = bool(colon) and kind.lower() in KINDS
    if not told:
        kind, value = _kind(line), line
    kind, value = kind.lower(), value.strip()
    if kind in _HEX:
        if not _HEX[kind].fullmatch(value.lower()):
            raise ManifestError(f"{where} is no {kind}; entries are {WAYS}")
        if not told and kind == "phash" and value.isdecimal():
            raise ManifestError(f"{where} is no hash for sure, all its digits are decimal; write phash: before them")
        return kind, bytes.fromhex(value)
    if kind == "url":
        if "://" not in value:
            raise ManifestError(f"{where} is no address; entries are {WAYS}")
        return kind, url_id_of(value)
    name = canonical_host(value.removeprefix("*.").strip("."))
    if not (_is_address(name) or (_DOMAIN.fullmatch(name) and (told or _is_dotted(name)))):
        raise ManifestError(f"{where} is none of what can be taken down; entries are {WAYS}")
    return kind, hashlib.sha256(name.encode()).digest()


def _kind(line: str) -> str:
    if "://" in line:
        return "url"
    return next((kind for kind, pattern in _HEX.items() if pattern.fullmatch(line.lower())), "domain")


def _is_dotted(name: str) -> bool:
    """Say whether a bare word looks like a domain: several labels, of which one has a letter."""
    return "." in name and any(letter.isalpha() for letter in name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def register(store: Store, given: Takedown) -> str:
    """Keep a list in the store, from where every later write of shards honours it; return its key.

    The key is the hash of its content: the same list twice is one.
    """
    rows = [{"kind": kind, "value": value} for kind in KINDS for value in sorted(given.of(kind))]
    data = parquet_bytes(pa.Table.from_pylist(rows, schema=_SCHEMA))
    key = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.parquet"
    store.create(key, data)
    return key


def registered(store: Store) -> tuple[str, ...]:
    """Return the keys of all lists in the store, sorted."""
    return tuple(key for key in store.keys(FOLDER) if key.endswith(".parquet"))


def load_lists(store: Store, keys: tuple[str, ...]) -> Takedown:
    """Return what lists in the store name together.

    Raises:
        ManifestError: One is damaged: its key is not the hash of its content.
    """
    return _cached(store.root, keys)


@lru_cache(maxsize=2)
def _cached(root: str, keys: tuple[str, ...]) -> Takedown:
    return _read(Store(root), keys)


def _read(store: Store, keys: tuple[str, ...]) -> Takedown:
    whole = Takedown()
    for key in keys:
        data = store.read(key)
        if hashlib.sha256(data).hexdigest() != key.removeprefix(f"{FOLDER}/").removesuffix(".parquet"):
            raise ManifestError(
                f"takedown list {key} is damaged; register the operator's list again: internvl takedown"
            )
        found: dict[str, set[bytes]] = {}
        for row in pq.read_table(io.BytesIO(data)).to_pylist():
            found.setdefault(row["kind"], set()).add(row["value"])
        whole = whole | Takedown({kind: frozenset(values) for kind, values in found.items()})
    return whole
