"""Pictures of instruction data: found below their root and nowhere else, whole, and not larger than allowed."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from infra.storage import Store
from stages.conversation_pictures import Place, Root, contents, size_of
from stages.conversation_rows import RowError
from stages.manifest import ManifestError


def picture(width: int = 8, height: int = 6, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, kind)
    return out.getvalue()


def refused(root: Root, name: str, place: Place | None = None) -> str:
    with pytest.raises(RowError) as error:
        root.read(name, place)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/a.png").write_bytes(b"inside")
    (tmp_path / "secret.png").write_bytes(b"outside")
    return tmp_path / "in"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png", "deep/../../secret.png", "/etc/passwd", "", ".", "..", "a\0b", "..\\secret.png", "http://a/b",
        "a\nb.png", "\ud83d.png", "n" * 256, "n/" * 600,
    ],
)  # fmt: skip
def test_names_that_lead_out_of_the_root_are_refused(store: Store, folder: Path, name: str) -> None:
    store.write("secret.png", b"outside")
    store.write("in/a.png", b"inside")
    for root in (str(folder), "store://in", None):
        assert refused(Root(root, store), name).startswith("path: ")


def test_links_may_end_inside_the_root_only(store: Store, folder: Path) -> None:
    os.symlink(folder / "deep", folder / "near")
    os.symlink("../secret.png", folder / "file.png")
    os.symlink("..", folder / "up")
    os.symlink("loop", folder / "loop")
    root = Root(str(folder), store)
    assert root.read("near/a.png") == b"inside"
    assert refused(root, "loop").startswith("path: loop is a link that leads to itself")
    for name in ("file.png", "up/secret.png"):
        assert refused(root, name) == f"path: {name} is a link that leads out of {folder}"
    with pytest.raises(RowError, match="leads out"):
        root.frames("up/")


def test_pictures_are_read_from_folders_and_the_store_and_missing_ones_are_named(store: Store, folder: Path) -> None:
    store.write("given/deep/a.png", b"stored")
    local, stored = Root(f"{folder}/", store), Root("store://given/", store)
    assert local.read("deep/a.png") == local.read("./deep//a.png") == b"inside"
    assert stored.read("deep/a.png") == b"stored"
    for root in (local, stored):
        assert refused(root, "deep/b.png").startswith("missing_picture: deep/b.png is not in ")
    assert refused(local, "deep").startswith("missing_picture: deep")
    assert refused(Root(None, store), "a.png").endswith("and the source has no root for its pictures")


def test_a_tar_gives_its_plain_files_only(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pictures.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("./deep/a.png")
        info.size = 6
        tar.addfile(info, io.BytesIO(b"inside"))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    store.write("given/pictures.tar", path.read_bytes())
    with path.open("rb") as file:
        there = contents(file, str(path))
    assert list(there) == ["deep/a.png"]
    for root in (Root(str(path), store), Root("store://given/pictures.tar", store)):
        assert root.read("deep/a.png", there["deep/a.png"]) == b"inside"
        assert refused(root, "link.png", there.get("link.png")).startswith("missing_picture: link.png is not in ")
        assert refused(root, "../a.png").startswith("path: ")
    with pytest.raises(ManifestError, match="is no uncompressed tar"):
        contents(io.BytesIO(b"x" * 1024), "x.tar")


def test_frames_come_in_the_order_of_their_numbers(store: Store, tmp_path: Path) -> None:
    for name in ("f10.png", "f2.png", "f1.jpg", "notes.txt"):
        (tmp_path / "clip").mkdir(exist_ok=True)
        (tmp_path / "clip" / name).write_bytes(b"")
    root = Root(str(tmp_path), store)
    assert root.frames("clip/") == ["clip/f1.jpg", "clip/f2.png", "clip/f10.png"]
    with pytest.raises(RowError, match="missing_picture: other/ is not in"):
        root.frames("other/")
    with pytest.raises(RowError, match="which only a folder of this machine can hold"):
        Root("store://given", store).frames("clip/")


def test_pictures_are_decoded_whole_and_judged_by_their_header_first() -> None:
    assert size_of(picture(8, 6), 48, "a.png") == (8, 6)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(turned, "JPEG", exif=exif)
    assert size_of(turned.getvalue(), 48, "turned.jpg") == (6, 8), "upright, which is how a model sees it"
    texts = PngInfo()
    texts.add_text("swells", "x" * (2 << 20), zip=True)
    swelling = io.BytesIO()
    Image.new("RGB", (8, 6)).save(swelling, "PNG", pnginfo=texts)
    assert size_of(swelling.getvalue(), 48, "swelling.png") == (8, 6), "texts beside the pixels are passed over"
    for data, limit, wrong in (
        (picture(8, 6), 47, "too_many_pixels: a.png has more than 47 pixels"),
        (picture(60, 60, "JPEG")[:-40], 4000, "picture: a.png cannot be decoded"),
        (b"<svg/>", 48, "picture: a.png cannot be decoded"),
        (b"", 48, "picture: a.png cannot be decoded"),
    ):
        with pytest.raises(RowError, match=wrong):
            size_of(data, limit, "a.png")
