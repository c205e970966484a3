"""Our tars are plain USTAR, and the reader takes nothing else: a hostile archive is refused at its first header."""

import io
import tarfile

import pytest

from stages.tars import BLOCK, TarError, ending, read_tar, sample_bytes, samples_of, tar_bytes

SAMPLES = [
    ("0a", {"jpg": b"\xff\xd8" * 700, "txt": "grün".encode()}),
    ("0b", {"jpg": b"", "txt": b"x", "json": b"{}"}),
]


def archive(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a good sample followed by one member of somebody else's making."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/hostname" if kind in (b"1", b"2") else "", size
    head = info.tobuf(form)
    return sample_bytes(*SAMPLES[0]) + head + ending(0)


def test_what_was_written_is_read_back_here_and_by_tarfile() -> None:
    data = tar_bytes(reversed([(key, dict(reversed(members.items()))) for key, members in SAMPLES]))
    assert list(read_tar(data)) == SAMPLES[::-1]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == ["0b.jpg", "0b.txt", "0b.json", "0a.jpg", "0a.txt"]
    assert {(info.mtime, info.uid, info.gid, info.mode, info.uname) for info in infos} == {(0, 0, 0, 0o644, "")}


def test_bytes_are_those_that_tarfile_writes() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in SAMPLES:
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mtime, info.mode = len(data), 0, 0o644
                tar.addfile(info, io.BytesIO(data))
    assert tar_bytes(SAMPLES) == out.getvalue()
    for length in (0, BLOCK, 17 * BLOCK, 18 * BLOCK, 19 * BLOCK, 20 * BLOCK):
        assert (length + len(ending(length))) % tarfile.RECORDSIZE == 0 and len(ending(length)) >= 2 * BLOCK


def test_a_sample_is_the_same_stretch_wherever_it_lies() -> None:
    data = tar_bytes(SAMPLES)
    for sample in samples_of(io.BytesIO(data)):
        stretch = data[sample.offset : sample.offset + len(sample.raw)]
        assert stretch == sample.raw == sample_bytes(sample.key, dict(SAMPLES)[sample.key])
        for member in sample.members.values():
            assert data[member.offset : member.offset + len(member.data)] == member.data


@pytest.mark.parametrize("key", ["v1.2", "a/b", "..", "../a", "", "a\0b", "a b", "ä", "k" * 91, "-\n"])
def test_keys_that_a_reader_would_mistake_are_not_written(key: str) -> None:
    with pytest.raises(TarError, match="cannot be a sample's key; use 1 to 90"):
        tar_bytes([(key, {"jpg": b"1"})])


def test_several_pictures_of_a_sample_stand_in_the_order_of_their_numbers() -> None:
    pictures = {f"{number}.jpg": bytes([number]) for number in (10, 2, 0, 1)}
    data = tar_bytes([("a", {"json": b"{}", **pictures})])
    ((key, members),) = read_tar(data)
    assert (key, list(members)) == ("a", ["0.jpg", "1.jpg", "2.jpg", "10.jpg", "json"]) and members["10.jpg"] == b"\n"
    with pytest.raises(TarError, match=r"has a member \.01\.jpg"):
        tar_bytes([("a", {"01.jpg": b"1"})])


def test_long_keys_foreign_members_and_repeats_are_not_written() -> None:
    assert len(list(read_tar(tar_bytes([("k" * 90, {"json": b"1"})])))) == 1
    with pytest.raises(TarError, match=r"sample a has a member \.pyd; shards hold jpg, txt, json only"):
        tar_bytes([("a", {"pyd": b"1"})])
    with pytest.raises(TarError, match="sample a comes twice"):
        tar_bytes([("a", {"jpg": b"1"}), ("a", {"txt": b"1"})])
    with pytest.raises(TarError, match=r"a.txt has 16777217 bytes; at most 16777216 fit"):
        tar_bytes([("a", {"txt": bytes((16 << 20) + 1)})])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("0c.jpg", tarfile.SYMTYPE),
        ("0c.jpg", tarfile.LNKTYPE),
        ("0c.jpg", tarfile.CHRTYPE),
        ("0c.jpg", tarfile.BLKTYPE),
        ("0c.jpg", tarfile.FIFOTYPE),
        ("0c.jpg", tarfile.GNUTYPE_SPARSE),
        ("0c.jpg", tarfile.GNUTYPE_LONGNAME),
        ("0c.jpg", tarfile.XHDTYPE),
        ("d", tarfile.DIRTYPE),
    ],
)
def test_links_devices_folders_and_sparse_files_are_refused(name: str, kind: bytes) -> None:
    with pytest.raises(TarError, match=r"'(0c.jpg|d/?)' at byte \d+ is refused: it is no plain file"):
        list(read_tar(archive(name, kind)))


@pytest.mark.parametrize(
    "name",
    [
        "../0c.jpg",
        "/etc/0c.jpg",
        "up/0c.jpg",
        "0c.pyd",
        "0c.pkl",
        "0c.02.jpg",
        "0c.2.txt",
        "0c.12345.jpg",
        ".jpg",
        "0c",
        "..jpg",
        "a\nb.jpg",
    ],
)
def test_names_outside_the_allow_list_are_refused(name: str) -> None:
    with pytest.raises(TarError, match=r"at byte \d+ is refused: names are KEY.jpg"):
        list(read_tar(archive(name)))


def test_a_name_split_over_the_prefix_field_is_refused() -> None:
    with pytest.raises(TarError, match="is refused: names are"):
        list(read_tar(archive("f" * 60 + "/" + "g" * 90 + ".jpg")))


@pytest.mark.parametrize("size", [10 << 30, (7 << 30) + 1, 1 << 40])
def test_a_claimed_size_is_refused_before_anything_is_read(size: int) -> None:
    with pytest.raises(TarError, match=r"is refused: it claims more than 268435456 bytes"):
        list(read_tar(archive("0c.jpg", size=size, form=tarfile.GNU_FORMAT)))


def test_sizes_that_are_no_octal_number_are_refused() -> None:
    data = bytearray(archive("0c.jpg"))
    at = len(sample_bytes(*SAMPLES[0]))
    for field in (b"-0000000001\0", b"+0000000001\0", b"0000_000001\0", b"\0" * 12):
        data[at + 124 : at + 136] = field
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])
        with pytest.raises(TarError, match="claims more than"):
            list(read_tar(bytes(data)))


def test_samples_in_pieces_and_repeats_are_refused() -> None:
    one, two = (sample_bytes(*sample) for sample in SAMPLES)
    with pytest.raises(TarError, match="sample 0a comes in pieces or twice"):
        list(read_tar(one + two + one + ending(0)))
    with pytest.raises(TarError, match=r"0a\.jpg comes twice"):
        list(read_tar(one + one + ending(0)))


def test_a_torn_or_damaged_tar_is_refused() -> None:
    data = tar_bytes(SAMPLES)
    with pytest.raises(TarError, match="ends inside a member"):
        list(read_tar(data[:1000]))
    with pytest.raises(TarError, match="header at byte 0 "):
        list(read_tar(b"x" + data[1:]))
    padding = BLOCK + 1400
    with pytest.raises(TarError, match=r"bytes follow 0a\.jpg where zeros should, at byte 1912"):
        list(read_tar(data[:padding] + b"x" + data[padding + 1 :]))
    with pytest.raises(TarError, match="header at byte"):
        list(read_tar(data[: len(sample_bytes(*SAMPLES[0])) + 100]))


def test_a_tar_cut_between_two_members_is_refused() -> None:
    """Other readers end quietly there, with fewer samples."""
    data = tar_bytes(SAMPLES)
    border = len(sample_bytes(*SAMPLES[0]))
    for cut in (b"", data[:border], data[:border] + bytes(BLOCK), data[:border] + bytes(100)):
        with pytest.raises(TarError, match="the tar has no end: it was cut at byte"):
            list(read_tar(cut))
    with pytest.raises(TarError, match="bytes follow the end"):
        list(read_tar(data + b"x"))
