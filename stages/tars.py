"""WebDataset tars: the same samples give the same bytes, and reading takes nothing but known members."""

import io
import tarfile
from collections.abc import Iterable, Iterator

MEMBERS = ("jpg", "txt", "json")


def tar_bytes(samples: Iterable[tuple[str, dict[str, bytes]]]) -> bytes:
    """Return a USTAR archive of (key, suffix -> bytes), in the given order, with zeroed times and owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for suffix, data in sorted(members.items()):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mtime, info.mode = len(data), 0, 0o644
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read_tar(data: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, suffix -> bytes) for each sample; other members and links are passed over."""
    key = ""
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            stem, _, suffix = info.name.partition(".")
            if not info.isfile() or suffix not in MEMBERS or "/" in stem:
                continue
            if stem != key and members:
                yield key, members
                members = {}
            key = stem
            file = tar.extractfile(info)
            assert file is not None
            members[suffix] = file.read()
    if members:
        yield key, members
