"""WebDataset tars: the same samples give the same bytes, and reading takes nothing but what we write.

A sample is its members one after the other, in the order of `MEMBERS`, each a USTAR header and a body padded to
whole blocks. Nothing in a sample depends on its neighbours, so shards are made by copying stretches of bytes.
"""

import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

MEMBERS = ("jpg", "txt", "json")
"""What a sample may consist of, in the order it is written; several pictures are `0.jpg`, `1.jpg`, ... instead."""
LARGEST = {"jpg": 256 << 20, "txt": 16 << 20, "json": 16 << 20}
"""Most bytes of one member; a header can claim anything."""
BLOCK = 512

_KEY = re.compile(r"[0-9A-Za-z_-]{1,90}")
_NUMBERED = re.compile(r"(0|[1-9][0-9]{0,3})\.jpg")
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")
_PIECE = 1 << 20


class TarError(ValueError):
    """An archive is torn, damaged, or holds something that no shard of ours does."""


class Member(NamedTuple):
    """One file of an archive: its sample, its suffix, its bytes and where they begin."""

    key: str
    suffix: str
    data: bytes
    offset: int
    header: bytes


class Sample(NamedTuple):
    """One sample of an archive, and where its stretch begins."""

    key: str
    members: dict[str, Member]
    offset: int

    @property
    def raw(self) -> bytes:
        """Its stretch as it lies in the archive: headers, bodies and padding."""
        pieces = [(each.header, each.data, bytes(-len(each.data) % BLOCK)) for each in self.members.values()]
        return b"".join(piece for each in pieces for piece in each)


def is_numbered(suffix: str) -> bool:
    """Say whether a member is one of several pictures of its sample."""
    return bool(_NUMBERED.fullmatch(suffix))


def _place_of(suffix: str) -> tuple[int, int] | None:
    """Return where a member stands in a sample, None where no sample of ours has such a member."""
    if found := _NUMBERED.fullmatch(suffix):
        return 0, 1 + int(found[1])
    return (MEMBERS.index(suffix), 0) if suffix in MEMBERS else None


def _largest(suffix: str) -> int:
    return LARGEST["jpg" if is_numbered(suffix) else suffix]


def check_key(key: str) -> None:
    """Refuse a key that a reader would take for something else: a dot would split it, a slash is a folder.

    Raises:
        TarError: It is not 1 to 90 ASCII letters, digits, `_` or `-`.
    """
    if not _KEY.fullmatch(key):
        raise TarError(f"{key[:100]!r} cannot be a sample's key; use 1 to 90 ASCII letters, digits, _ or -")


def sample_bytes(key: str, members: Mapping[str, bytes]) -> bytes:
    """Return the stretch of an archive that holds one sample, members in the order of `MEMBERS`.

    Raises:
        TarError: The key, a member's name or its size is none that the reader takes.
    """
    check_key(key)
    places = {suffix: _place_of(suffix) for suffix in members}
    if foreign := sorted(suffix for suffix, place in places.items() if place is None):
        raise TarError(f"sample {key} has a member .{foreign[0]}; shards hold {', '.join(MEMBERS)} only")
    out = bytearray()
    for suffix in sorted(members, key=lambda each: places[each] or (0, 0)):
        data = members[suffix]
        if len(data) > _largest(suffix):
            raise TarError(f"{key}.{suffix} has {len(data)} bytes; at most {_largest(suffix)} fit a shard")
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size, info.mtime, info.mode = len(data), 0, 0o644
        out += info.tobuf(tarfile.USTAR_FORMAT)
        out += data
        out += bytes(-len(data) % BLOCK)
    return bytes(out)


def ending(length: int) -> bytes:
    """Return the zeros that end an archive of this many bytes: two blocks at least, to a whole record."""
    return bytes(2 * BLOCK + -(length + 2 * BLOCK) % tarfile.RECORDSIZE)


def tar_bytes(samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> bytes:
    """Return a USTAR archive of (key, suffix -> bytes), in the given order, with zeroed times and owners.

    Raises:
        TarError: A key comes twice, or is none that the reader takes.
    """
    out, seen = io.BytesIO(), set[str]()
    for key, members in samples:
        if key in seen:
            raise TarError(f"sample {key} comes twice; write each sample once")
        seen.add(key)
        out.write(sample_bytes(key, members))
    out.write(ending(out.tell()))
    return out.getvalue()


def read_tar(data: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, suffix -> bytes) for each sample.

    Raises:
        TarError: As `samples_of`.
    """
    for sample in samples_of(io.BytesIO(data)):
        yield sample.key, {suffix: member.data for suffix, member in sample.members.items()}


def samples_of(file: BinaryIO, whole: bool = True) -> Iterator[Sample]:
    """Yield the samples of an archive that is read once from front to back, one sample in memory.

    Args:
        file: The archive; never sought in.
        whole: Whether it is an archive with an end, not a stretch of one.

    Raises:
        TarError: It is torn or damaged; a member is no plain file or no known kind; a sample comes in pieces.
    """
    found: list[Member] = []
    seen: set[str] = set()
    for member in members_of(file, whole):
        if found and member.key != found[0].key:
            yield _sample(found)
            found = []
        if not found and member.key in seen:
            raise TarError(f"sample {member.key} comes in pieces or twice; make the shards again")
        if any(member.suffix == other.suffix for other in found):
            raise TarError(f"{member.key}.{member.suffix} comes twice; make the shards again")
        seen.add(member.key)
        found.append(member)
    if found:
        yield _sample(found)


def _sample(found: list[Member]) -> Sample:
    return Sample(found[0].key, {member.suffix: member for member in found}, found[0].offset - BLOCK)


def members_of(file: BinaryIO, whole: bool = True) -> Iterator[Member]:
    """Yield the members of an archive: an allow-list of plain files, so that nothing else is ever opened.

    A header is looked at once, not parsed into an object as `tarfile` does, which makes it several times faster.

    Raises:
        TarError: It is torn or damaged, or a member is none that a shard of ours has.
    """
    at = 0
    while any(header := file.read(BLOCK)):
        key, suffix, size = _header(header, at)
        padded = -(-size // BLOCK) * BLOCK
        body = file.read(padded)
        at += BLOCK
        if len(body) < padded:
            raise TarError(f"the tar ends inside a member, at byte {at + len(body)}; copy or make it again")
        if any(body[size:]):
            raise TarError(f"bytes follow {key}.{suffix} where zeros should, at byte {at + size}; make the tar again")
        yield Member(key, suffix, body[:size], at, header)
        at += padded
    if whole:
        _end(file, header, at)


def _header(header: bytes, at: int) -> tuple[str, str, int]:
    """Return (key, suffix, size) of a member that may be read."""
    told = _OCTAL.fullmatch(header[148:156])
    if len(header) < BLOCK or not told or int(told[1], 8) != sum(header) - sum(header[148:156]) + 8 * 32:
        raise TarError(f"not a tar: the header at byte {at} does not hold together; copy or make it again")
    name = header[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
    key, _, suffix = name.partition(".")
    refused = f"the member {name!r} at byte {at} is refused: "
    if header[156:157] not in (b"0", b"\0"):
        raise TarError(f"{refused}it is no plain file (type {header[156:157]!r}); use shards that this project wrote")
    if header[345] or not _KEY.fullmatch(key) or _place_of(suffix) is None:
        raise TarError(
            f"{refused}names are KEY.{'|'.join(MEMBERS)}, the key without dots or folders; "
            "use shards that this project wrote"
        )
    size = _OCTAL.fullmatch(header[124:136])
    if not size or int(size[1], 8) > _largest(suffix):
        raise TarError(f"{refused}it claims more than {_largest(suffix)} bytes; use shards that this project wrote")
    return key, suffix, int(size[1], 8)


def _end(file: BinaryIO, last: bytes, at: int) -> None:
    """Read on to the end; without end blocks an archive may have been cut between two members."""
    if len(last) < BLOCK or len(second := file.read(BLOCK)) < BLOCK or any(second):
        raise TarError(f"the tar has no end: it was cut at byte {at}, between two members; copy or make it again")
    while piece := file.read(_PIECE):
        if any(piece):
            raise TarError(f"bytes follow the end of the tar at byte {at}; use shards that this project wrote")
