"""Pictures as the web has them: their true colours and size come out, or a reason; nothing else gets in."""

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw

from stages.outcome import Outcome
from stages.picture_headers import FORMATS, declared_size, sniff
from stages.pictures import PictureError, Wanted, decode, inspect, perceptual_hash, picture_of

LIMIT = 1_000_000
ORANGE = (230, 120, 40)


def drawn(width: int = 160, height: int = 120) -> Image.Image:
    """Return a scene with a soft ground, edges and a bright corner at the top left."""
    rows, columns = np.mgrid[0:height, 0:width]
    ground = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)], 2)
    image = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.line([0, height - 1, width - 1, 0], fill=(20, 40, 200), width=max(2, width // 40))
    draw.ellipse([width // 4, height // 4, width * 3 // 4, height * 3 // 4], fill=ORANGE)
    draw.rectangle([0, 0, width // 5, height // 5], fill=(250, 250, 40))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def palette(colour: int) -> Image.Image:
    image = Image.new("P", (9, 9), colour)
    image.putpalette([10, 20, 30] * 4)
    return image


def png(width: int, height: int, depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG written chunk by chunk, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * height)
    middle = b"".join(chunk(name, data) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def centre(body: bytes) -> list[int]:
    pixels = decode(body, LIMIT).pixels
    return np.atleast_1d(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]).astype(int).tolist()


def reason(body: bytes, **given: Any) -> Outcome:
    with pytest.raises(PictureError) as caught:
        decode(body, LIMIT, **given)
    return caught.value.outcome


BLACK = Image.new("RGB", (160, 120))
HALF = struct.pack(">H", 0x8000)


@pytest.mark.parametrize(
    ("name", "body", "truth"),
    [
        ("jpeg", saved(drawn(), "JPEG", quality=95), ORANGE),
        ("progressive", saved(drawn(), "JPEG", quality=95, progressive=True), ORANGE),
        ("gray", saved(drawn().convert("L"), "JPEG"), (144,)),
        ("cmyk", saved(drawn().convert("CMYK"), "JPEG", quality=95), ORANGE),
        ("png", saved(drawn(), "PNG"), ORANGE),
        ("bmp", saved(drawn(), "BMP"), ORANGE),
        ("webp", saved(drawn(), "WEBP", lossless=True), ORANGE),
        ("palette", saved(drawn().quantize(64), "PNG"), ORANGE),
        ("one bit", saved(Image.new("1", (9, 9), 1), "PNG"), (255,)),
        ("gif, first frame", saved(drawn(), "GIF", save_all=True, append_images=[BLACK]), ORANGE),
        ("webp, first frame", saved(drawn(), "WEBP", lossless=True, save_all=True, append_images=[BLACK]), ORANGE),
        ("half clear", saved(Image.new("RGBA", (9, 9), (200, 100, 0, 128)), "PNG"), (227, 177, 127)),
        ("clear", saved(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG"), (255, 255, 255)),
        ("gray half clear", saved(Image.new("LA", (9, 9), (0, 128)), "PNG"), (127, 127, 127)),
        ("clear colour of a palette", saved(palette(3), "PNG", transparency=3), (255, 255, 255)),
        ("palette with a clear colour", saved(palette(1), "PNG", transparency=3), (10, 20, 30)),
        ("clear gif", saved(palette(3), "GIF", transparency=3), (255, 255, 255)),
        ("16 bit gray", png(8, 8, 16, 0, HALF * 8), (128,)),
        ("16 bit rgb", png(8, 8, 16, 2, HALF * 24), (128, 128, 128)),
        ("16 bit gray half clear", png(8, 8, 16, 4, (b"\0\0" + HALF) * 8), (127, 127, 127)),
        ("16 bit rgba", png(8, 8, 16, 6, (HALF * 3 + b"\xff\xff") * 8), (128, 128, 128)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_colours_are_what_was_meant(name: str, body: bytes, truth: tuple[int, ...]) -> None:
    assert inspect(body, LIMIT) is None
    assert centre(body) == pytest.approx(truth, abs=3), name


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright_and_say_their_true_size(kind: str, turn: int) -> None:
    upright = drawn(800, 600)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = upright.transpose(Image.Transpose(undo[turn])) if turn > 1 else upright
    found = decode(saved(stored, kind, exif=exif), LIMIT, Wanted(100))
    assert (found.width, found.height) == (800, 600)
    height, width, _ = found.pixels.shape
    assert width / height == pytest.approx(4 / 3, rel=0.02) and height >= 100
    assert found.pixels[height // 10, width // 10].tolist() == pytest.approx((250, 250, 40), abs=8)


def test_large_jpegs_are_decoded_small_and_look_the_same() -> None:
    body = saved(drawn(1600, 1200), "JPEG", quality=90)
    whole = decode(body, 2_000_000).pixels
    small = decode(body, 2_000_000, Wanted(256))
    assert small.pixels.shape == (300, 400, 3) and (small.width, small.height) == (1600, 1200)
    ready = (
        np.asarray(Image.fromarray(each).resize((341, 256), Image.Resampling.BOX)) for each in (whole, small.pixels)
    )
    one, two = (each.astype(int) for each in ready)
    assert np.abs(one - two).mean() < 1 and np.quantile(np.abs(one - two), 0.99) < 12
    assert decode(body, 2_000_000, Wanted(256, longer=True)).pixels.shape == (300, 400, 3)
    assert decode(body, 2_000_000, Wanted()).pixels.shape == whole.shape == (1200, 1600, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (2000, 1), (900, 7)])
def test_small_and_narrow_pictures_are_for_the_filters_to_judge(size: tuple[int, int]) -> None:
    found = decode(saved(Image.new("RGB", size, ORANGE), "JPEG"), LIMIT, Wanted(64))
    assert (found.width, found.height) == size and min(found.pixels.shape[:2]) >= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_headers_say_what_pillow_says(kind: str) -> None:
    for size in ((160, 120), (1, 3), (300, 2)):
        image = drawn().resize(size)
        for options in ({}, {"lossless": True}, {"progressive": True}, {"exif": Image.Exif()}):
            body = saved(image, kind, **options)
            assert sniff(body) == kind and declared_size(body, kind) == size
        assert declared_size(body[:9], kind) is None
    alpha = saved(image.convert("RGBA"), kind) if kind != "JPEG" else body
    assert declared_size(alpha, kind) == size


def claims(kind: str, side: int) -> bytes:
    """Return a small picture whose header claims another size."""
    body = bytearray(saved(drawn(16, 16), kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "PNG":
        body[16:24] = struct.pack(">II", side, side)
        body[29:33] = struct.pack(">I", zlib.crc32(body[12:29]))
    elif kind == "GIF":
        body[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        body[18:26] = struct.pack("<ii", side, -side)
    elif kind == "WEBP":
        body[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    else:
        at = body.index(b"\xff\xc0")
        body[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(body)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_is_judged_before_anything_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Image, "open", never)
    assert inspect(claims(kind, 1000), LIMIT) is None
    assert inspect(claims(kind, 1001), LIMIT) == reason(claims(kind, 1001)) == Outcome.TOO_MANY_PIXELS
    assert inspect(claims(kind, 1001), LIMIT, max_side=1000) == Outcome.TOO_MANY_PIXELS


def test_a_side_is_capped_where_the_area_is_not() -> None:
    assert inspect(png(16_385, 1, 8, 0, b"\0" * 16_385), LIMIT) == Outcome.TOO_MANY_PIXELS
    assert inspect(png(16_384, 1, 8, 0, b"\0" * 16_384), LIMIT) is None


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    body = saved(drawn(1000, 1000), "JPEG")
    start = body.rindex(b"\xff\xda")
    # Whatever follows the one scan of a plain JPEG is passed over.
    assert inspect(body[:-2] + body[start:-2] * 40, LIMIT) is None
    partial = bytearray(body[:-2] + body[start:-2] * 40)
    partial[start + 4] = 1
    assert inspect(bytes(partial), LIMIT) == Outcome.TOO_MANY_PIXELS
    body = saved(drawn(1000, 1000), "JPEG", progressive=True)
    start = body.rindex(b"\xff\xda")
    assert inspect(body, LIMIT) is None
    assert inspect(body[:-2] + body[start:-2] * 40, LIMIT) == Outcome.TOO_MANY_PIXELS
    assert inspect(body[:-2] + body[start:-2] * 4, LIMIT) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xd8",
        b"<!doctype html><html></html>",
        b'{"error": 404}',
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.4",
        b"BMW is a maker of cars and not a bitmap.",
        b"GIF88a" + bytes(100),
        saved(drawn(), "TIFF"),
        saved(drawn(), "PPM"),
        saved(drawn(), "ICO"),
        bytes(1000),
        b"MZ" + bytes(100),
    ],
)
def test_what_is_no_picture_of_ours_is_named_so(body: bytes) -> None:
    assert inspect(body, LIMIT) == reason(body) == Outcome.NOT_IMAGE


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_half_a_picture_is_refused_and_never_filled_up(kind: str, share: float) -> None:
    body = saved(drawn(400, 300), kind)
    assert reason(body[: int(len(body) * share)]) == Outcome.DECODE
    assert reason(body[: int(len(body) * share)], wanted=Wanted(32)) == Outcome.DECODE


def test_damage_is_refused() -> None:
    body = saved(drawn(), "PNG")
    at = body.index(b"IDAT") + 30
    assert reason(body[:at] + bytes([body[at] ^ 255]) + body[at + 1 :]) == Outcome.DECODE
    jpeg = saved(drawn(), "JPEG")
    assert reason(jpeg[:4] + b"garbage" + jpeg[4:]) == Outcome.DECODE
    assert inspect(jpeg[:10], LIMIT) == Outcome.DECODE


def test_chunks_that_swell_take_no_memory() -> None:
    """A text chunk of 64 kB that inflates to 64 MB is passed over, and a profile likewise."""
    bomb = b"Comment\0\0" + zlib.compress(bytes(64_000_000))
    body = png(8, 8, 8, 0, b"\x80" * 8, (b"zTXt", bomb), (b"iCCP", bomb))
    code = (
        "import resource, sys\n"
        "from stages.pictures import decode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert (decode(sys.stdin.buffer.read(), 1_000_000).pixels == 128).all()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True)
    assert int(done.stdout) < 32_000


def test_a_large_transparent_picture_is_blended_in_bounded_memory() -> None:
    side = 2000
    body = png(side, side, 8, 6, b"\x10\x20\x30\x80" * side)
    code = (
        "import resource, sys\n"
        "from stages.pictures import decode\n"
        "body = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "pixels = decode(body, 64_000_000).pixels\n"
        "assert pixels[9, 9].tolist() == [135, 143, 151], pixels[9, 9]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True)
    # Three copies of four bytes a pixel and one of three; floats would take 32 and more.
    assert int(done.stdout) * 1024 < 20 * side * side


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_a_model_is_shown_rgb_and_nothing_beside_the_pixels(mode: str) -> None:
    body = saved(drawn().convert(mode), "JPEG" if mode == "CMYK" else "PNG", icc_profile=b"profile")
    shown = picture_of(body)
    assert (shown.mode, shown.size, shown.info) == ("RGB", (160, 120), {})
    pixels = decode(body, LIMIT).pixels
    assert (np.asarray(shown) == (pixels if pixels.ndim == 3 else pixels[..., None])).all()


def test_a_plain_jpeg_is_shown_as_the_library_decodes_it() -> None:
    body = saved(drawn(), "JPEG")
    assert picture_of(body).tobytes() == Image.open(io.BytesIO(body)).convert("RGB").tobytes()
    for data in (b"", b"no picture", body[:200]):
        with pytest.raises(PictureError):
            picture_of(data)


def test_perceptual_hashes_are_those_of_imagehash_and_survive_another_size() -> None:
    for size in ((160, 120), (33, 250), (12, 9)):
        for image in (drawn(*size), drawn(*size).convert("L")):
            assert perceptual_hash(image) == int(str(imagehash.phash(image)), 16)
    whole = perceptual_hash(drawn(1200, 900))
    assert (whole ^ int(str(imagehash.phash(drawn(1200, 900))), 16)).bit_count() <= 2
    body = saved(drawn(1200, 900), "JPEG", quality=60)
    again = decode(body, 2_000_000, Wanted(64)).phash
    assert (whole ^ again).bit_count() <= 4
    other = perceptual_hash(drawn(1200, 900).rotate(90))
    assert (whole ^ other).bit_count() > 16


def test_a_flat_picture_has_one_hash_everywhere() -> None:
    assert perceptual_hash(Image.new("L", (64, 64), 77)) == 1 << 63
