"""Whatever a stranger sends as a picture is a picture, or is refused with a sentence that says what to do."""

import base64
import io
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gateways import LIMITS
from PIL import Image
from small_web import drawn, jpeg, small_web

from stages.serving.pictures import from_url, seen
from stages.serving.refusal import Refused

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def url_of(body: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def bomb() -> bytes:
    """Return a PNG of few bytes that claims a gigapixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_four_formats_come_through_as_pngs_of_their_pixels(kind: str) -> None:
    image = drawn(3)
    found = seen(encoded(image, kind), LIMITS)
    assert found.png[:8] == b"\x89PNG\r\n\x1a\n" and found.image.mode == "RGB"
    again = np.asarray(Image.open(io.BytesIO(found.png)), np.int16)
    assert np.abs(again - np.asarray(image, np.int16)).mean() < 12
    assert from_url(found.data_url, LIMITS).png == found.png


def test_of_an_animation_the_first_frame_is_seen_and_transparency_lies_on_white() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    moving = seen(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMITS)
    assert moving.image.getpixel((3, 3)) == (255, 0, 0)
    clear = seen(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), LIMITS)
    assert clear.image.getpixel((1, 1)) == (255, 255, 255)


def test_nothing_but_pixels_reaches_the_engine() -> None:
    hidden = encoded(drawn(1), "JPEG", comment=b"<script>secret</script>", exif=Image.Exif().tobytes())
    assert b"secret" in hidden and b"secret" not in seen(hidden, LIMITS).png


HOSTILE: dict[str, tuple[Callable[[], str], int, str]] = {
    "svg": (lambda: url_of(SVG), 400, "SVG"),
    "svg as itself": (lambda: url_of(SVG, "image/svg+xml"), 400, "image/svg+xml"),
    "html": (lambda: url_of(b"<!doctype html><p>hi</p>"), 400, "text"),
    "bmp": (lambda: url_of(encoded(drawn(1), "BMP")), 400, "known format"),
    "nothing": (lambda: url_of(b""), 400, "known format"),
    "bomb": (lambda: url_of(bomb()), 413, "1,000,000 pixels"),
    "large": (lambda: url_of(encoded(Image.new("1", (1001, 1000)), "PNG")), 413, "1,000,000 pixels"),
    "100 MB": (lambda: "data:image/png;base64," + "A" * 134_000_000, 413, "at most 1,000,000"),
    "heavy": (lambda: url_of(jpeg(1) + bytes(1_000_000)), 413, "at most 1,000,000"),
    "cut": (lambda: url_of(jpeg(1)[:700], "image/jpeg"), 400, "does not decode whole"),
    "only a head": (lambda: url_of(b"\x89PNG\r\n\x1a\n"), 400, "does not decode whole"),
    "another type": (lambda: url_of(jpeg(1), "application/pdf"), 400, "application/pdf"),
    "no type": (lambda: url_of(jpeg(1), ""), 400, "of no type"),
    "not in base64": (lambda: "data:image/png,%89PNG", 400, "base64"),
    "broken base64": (lambda: "data:image/png;base64,@@@@", 400, "base64"),
    "a file": (lambda: "file:///etc/passwd", 400, "files of this machine"),
    "a path": (lambda: "/etc/passwd", 400, "files of this machine"),
    "loopback": (lambda: "http://127.0.0.1:1/a.png", 400, "public internet"),
    "metadata": (lambda: "http://169.254.169.254/latest/meta-data", 400, "public internet"),
    "loopback in octal": (lambda: "http://0177.0.0.1/a.png", 400, "address"),
    "loopback in ipv6": (lambda: "http://[::1]/a.png", 400, "public internet"),
}


@pytest.mark.parametrize(("url", "status", "said"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_pictures_are_refused_with_what_to_do(url: Callable[[], str], status: int, said: str) -> None:
    with pytest.raises(Refused) as refused:
        from_url(url(), LIMITS, "messages[0], picture 1")
    assert refused.value.status == status and said in refused.value.message
    assert refused.value.message.startswith("messages[0], picture 1")
    error = refused.value.body["error"]
    assert error["type"] == "invalid_request_error" and error["code"] and error["param"] == "messages"
    assert len(refused.value.message) < 400, "nothing of the picture is said back"


def test_pictures_on_the_web_come_by_our_own_rules() -> None:
    with small_web() as web:
        allowed = LIMITS.model_copy(update={"allow_hosts": (web.host,)})
        web.pages = {
            "/a.jpg": (200, jpeg(1)),
            "/page": (200, b"<p>no picture</p>"),
            "/bomb": (200, bomb()),
            "/large": (200, jpeg(1) + bytes(1_000_001)),
        }
        web.moved = {"/away": "http://127.0.0.1:1/a.png"}
        assert from_url(web.url("/a.jpg"), allowed).png == seen(jpeg(1), LIMITS).png
        for path, said in {
            "/page": "no picture", "/bomb": "pixels", "/large": "1,000,000 bytes", "/gone": "404",
            "/away": "public internet",
        }.items():  # fmt: skip
            with pytest.raises(Refused, match=said):
                from_url(web.url(path), allowed)
        asked = sum(web.asked.values())
        with pytest.raises(Refused, match="--allow-host"):
            from_url(web.url("/a.jpg"), LIMITS)
        assert sum(web.asked.values()) == asked, "a private host that nobody allowed is not even asked"


def test_a_refused_bomb_was_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a library saw the bomb")

    monkeypatch.setattr(sys.modules["stages.pictures"].Image, "open", opened)
    with pytest.raises(Refused, match="pixels"):
        seen(bomb(), LIMITS)
