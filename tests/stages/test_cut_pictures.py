"""Of a JPEG that breaks off, the rows that were decoded are taken and no other."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.cut_pictures import decoded_part
from stages.outcome import Outcome
from stages.pictures import PictureError, Wanted, decode

LIMIT = 1_000_000


def picture(mode: str = "RGB") -> Image.Image:
    """Return noise with a black strip and a white one: neither may be taken for missing rows."""
    pixels = np.random.default_rng(3).integers(0, 256, (160, 96, 3), dtype=np.uint8)
    pixels[32:64], pixels[64:96] = 0, 255
    return Image.fromarray(pixels).convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kept", [0.5, 0.7, 0.95])
def test_the_decoded_rows_are_those_of_the_whole_picture(mode: str, kept: float) -> None:
    body = jpeg(picture(mode))
    part, share = decoded_part(body[: int(len(body) * kept)])
    whole = np.asarray(Image.open(io.BytesIO(body)))
    assert 0 < part.height < 160 and share == part.height / 160
    # The last rows before the cut have no neighbours below that their colours could be smoothed with.
    assert np.array_equal(np.asarray(part)[:-16], whole[: part.height - 16])


def test_a_picture_that_ends_in_black_or_white_is_not_cut_further() -> None:
    for colour in (0, 255):
        body = jpeg(Image.new("L", (64, 64), colour))
        # Without its end marker, which the decoder needs for the last rows.
        part, share = decoded_part(body[:-2])
        assert share >= 0.75 and (np.asarray(part) == colour).all()


def test_nothing_is_left_of_what_has_no_whole_row() -> None:
    body = jpeg(picture(), progressive=True)
    for cut in (body[: len(body) // 2], jpeg(picture())[:300], b"\xff\xd8\xff"):
        with pytest.raises(OSError, match=r"row|header|broken|[Tt]runcated|identify"):
            decoded_part(cut)


def test_a_cut_picture_is_stored_only_where_a_recipe_takes_it() -> None:
    body = jpeg(picture())
    cut = body[: int(len(body) * 0.7)]
    found = decode(cut, LIMIT, Wanted(32), min_decoded_share=0.5)
    assert 0.5 < found.decoded_share < 0.9
    assert (found.width, found.height) == (96, 160)
    # Needed at 32, decoded at a half as a whole one is.
    assert found.pixels.shape == (round(80 * found.decoded_share), 48, 3)
    for least in (0.95, 1.0):
        with pytest.raises(PictureError) as caught:
            decode(cut, LIMIT, min_decoded_share=least)
        assert caught.value.outcome == Outcome.DECODE
    assert decode(body, LIMIT, min_decoded_share=0.5).decoded_share == 1


def test_a_cut_picture_is_decoded_no_larger_than_a_whole_one_and_large_enough_for_what_may_be_left() -> None:
    body = jpeg(Image.effect_noise((1024, 1024), 60))
    cut = body[: int(len(body) * 0.6)]
    whole = decode(body, 2 * LIMIT, Wanted(128)).pixels
    assert whole.shape == (128, 128)
    # Half a picture has to have 128 rows too, a tenth of one 128 as well.
    for least, width in ((0.5, 256), (0.1, 1024), (0.59, 256)):
        found = decode(cut, 2 * LIMIT, Wanted(128), min_decoded_share=least)
        assert found.pixels.shape == (round(width * found.decoded_share), width), least
        assert min(found.pixels.shape) >= 128 and (found.width, found.height) == (1024, 1024)
    found = decode(cut, 2 * LIMIT, Wanted(128, longer=True), min_decoded_share=0.5)
    assert found.pixels.shape[1] == whole.shape[1]


def test_a_picture_taller_than_a_strip_is_cut_at_the_right_row() -> None:
    body = jpeg(Image.effect_noise((16, 1000), 60))
    for kept in (0.2, 0.5, 0.9):
        part, share = decoded_part(body[: int(len(body) * kept)])
        assert abs(share - kept) < 0.1 and share == part.height / 1000


def test_a_cut_picture_is_turned_upright_like_a_whole_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = jpeg(picture(), exif=exif)
    found = decode(body[: int(len(body) * 0.7)], LIMIT, min_decoded_share=0.5)
    assert (found.width, found.height) == (160, 96)
    assert found.pixels.shape == (96, round(160 * found.decoded_share), 3)
