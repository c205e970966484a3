"""The fast reader reads exactly what the slow one reads, and refuses what does not hold together."""

import io
import tarfile

import pytest

from stages.tars import read_tar, tar_bytes

SAMPLES = [
    ("0a", {"jpg": b"\xff\xd8" * 700, "txt": "grün".encode()}),
    ("0b", {"jpg": b"", "json": b"{}", "txt": b"x"}),
]


def test_what_was_written_is_read_back() -> None:
    assert list(read_tar(tar_bytes(SAMPLES))) == SAMPLES
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(SAMPLES))) as tar:
        assert [member.name for member in tar] == ["0a.jpg", "0a.txt", "0b.jpg", "0b.json", "0b.txt"]


def test_links_folders_and_foreign_members_are_passed_over() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind in (("0c.jpg", tarfile.SYMTYPE), ("d", tarfile.DIRTYPE), ("up/0e.jpg", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info)
        info = tarfile.TarInfo("f" * 60 + "/" + "g" * 90 + ".jpg")
        tar.addfile(info)
        info = tarfile.TarInfo("0f.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    assert list(read_tar(out.getvalue())) == [("0f", {"jpg": b"abc"})]


def test_a_torn_or_damaged_tar_is_refused() -> None:
    data = tar_bytes(SAMPLES)
    with pytest.raises(ValueError, match="ends inside a member"):
        list(read_tar(data[:1000]))
    with pytest.raises(ValueError, match="header at byte 0 "):
        list(read_tar(b"x" + data[1:]))
