"""img2dataset's worker over fetchers of ours: what is stored, what is counted, and what the process is left as."""

import hashlib
import io
import threading
import urllib.request
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_web import drawn, jpeg

from infra.egress import EgressError
from infra.settings import quiet_environment, settings
from stages.blocking import BlockList
from stages.borrowed import renamed
from stages.fetchers import Network, Shelf
from stages.fetching import Answer, Storing, fetch_shard
from stages.lean import lean_package
from stages.outcome import Outcome
from stages.pictures import perceptual_hash

LIMIT = 1_000_000


def fetched(bodies: dict[str, bytes], blocked: BlockList | None = None, **storing: Any) -> dict[str, Answer]:
    asked = [Answer(url) for url in bodies]
    fetch_shard(asked, Shelf(bodies, LIMIT), Storing(threads=4, **storing), blocked or BlockList())
    return {answer.url: answer for answer in asked}


def pixels(answer: Answer) -> np.ndarray:
    assert answer.image is not None
    return np.asarray(Image.open(io.BytesIO(answer.image)))


def segments(body: bytes) -> tuple[set[str], bytes]:
    """Return the names of a JPEG's segments and what follows its end."""
    names, at = set(), 2
    while body[at + 1] != 0xDA:
        names.add(f"{body[at + 1]:02x}")
        at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")
    end = body.index(b"\xff\xd9", at)
    return names, body[end + 2 :]


def test_facts_of_a_picture_travel_beside_it() -> None:
    body = jpeg(1, (320, 200))
    asked = [Answer("a", wants_md5=True), Answer("b")]
    fetch_shard(asked, Shelf({"a": body, "b": b"<html>"}, LIMIT), Storing(image_size=64), BlockList())
    good, bad = asked
    assert (good.outcome, good.http_status, good.tries) == (Outcome.FETCHED, 200, 1)
    assert (good.original_width, good.original_height, good.width, good.height) == (320, 200, 102, 64)
    assert good.body_bytes == len(body) and good.body_sha256 == hashlib.sha256(body).hexdigest()
    assert good.body_md5 == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert good.phash == perceptual_hash(Image.open(io.BytesIO(body)))
    assert (bad.outcome, bad.image, bad.body_sha256, bad.phash) == (Outcome.NOT_IMAGE, None, None, None)


@pytest.mark.parametrize("mode", ["keep_ratio", "keep_ratio_largest", "center_crop", "border", "no"])
@pytest.mark.parametrize("size", [(640, 480), (1000, 904), (300, 500), (40, 60)])
def test_pictures_come_out_as_img2dataset_makes_them(mode: str, size: tuple[int, int]) -> None:
    lean_package("img2dataset")
    from img2dataset.resizer import Resizer

    body = jpeg(2, size)
    given = {"image_size": 64, "resize_mode": mode, "encode_quality": 95}
    theirs, width, height, original_width, original_height, error = Resizer(resize_only_if_bigger=False, **given)(
        io.BytesIO(body)
    )
    assert error is None
    ours = fetched({"a": body}, **given)["a"]
    assert (ours.width, ours.height, ours.original_width, ours.original_height) == (
        width, height, original_width, original_height,
    )  # fmt: skip
    one, two = pixels(ours).astype(int), np.asarray(Image.open(io.BytesIO(theirs))).astype(int)
    assert one.shape == two.shape and np.abs(one - two).mean() < 2.5


@pytest.mark.parametrize("mode", ["keep_ratio", "keep_ratio_largest", "center_crop", "border"])
def test_a_line_of_pixels_does_not_become_a_mountain(mode: str) -> None:
    body = io.BytesIO()
    Image.new("RGB", (1, 16_000), (200, 100, 50)).save(body, "PNG")
    answer = fetched({"a": body.getvalue()}, image_size=256, resize_mode=mode)["a"]
    assert answer.outcome is Outcome.FETCHED and (answer.original_width, answer.original_height) == (1, 16_000)
    assert answer.width and answer.height and answer.width * answer.height <= 256 * 16_000


def test_a_line_that_is_left_of_a_cut_picture_does_not_become_one_either() -> None:
    body = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (992, 992), dtype=np.uint8)).save(body, "JPEG")
    cut = body.getvalue()[: body.tell() // 60]
    answer = fetched({"a": cut}, image_size=256, min_decoded_share=0.001)["a"]
    assert answer.outcome is Outcome.FETCHED and answer.decoded_share and answer.decoded_share < 1 / 64
    assert answer.width == 992 and answer.height == round(992 * answer.decoded_share)


def test_gray_stays_gray_and_upside_down_is_turned() -> None:
    gray, turned = io.BytesIO(), io.BytesIO()
    drawn(3, (300, 200)).convert("L").save(gray, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(3, (300, 200)).transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", exif=exif, quality=95)
    found = fetched(
        {"gray": gray.getvalue(), "turned": turned.getvalue(), "plain": jpeg(3, (300, 200))}, image_size=64
    )
    assert pixels(found["gray"]).shape == (64, 96)
    assert found["turned"].original_width == 300 and pixels(found["turned"]).shape == (64, 96, 3)
    apart = np.abs(pixels(found["turned"]).astype(int) - pixels(found["plain"]).astype(int)).mean()
    assert apart < 3


def test_nothing_but_the_picture_is_stored() -> None:
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    exif.get_ifd(0x8825)[1] = "N"
    body = jpeg(4, (64, 64), exif=exif, comment=b"SECRET-COMMENT") + b"<html>TAIL</html>PK\3\4"
    assert b"SECRET" in body and b"script" in body and segments(body)[1]
    for mode in ("keep_ratio", "no"):
        stored = fetched({"a": body}, image_size=64, resize_mode=mode)["a"].image
        assert stored is not None
        # JFIF's own header, tables, frame: no EXIF, no comment, no profile, nothing behind the end.
        assert segments(stored) == ({"e0", "db", "c0", "c4"}, b"")
        assert not any(word in stored for word in (b"SECRET", b"script", b"html", b"Exif", b"PK"))


def test_blocked_pictures_are_counted_and_not_kept() -> None:
    bodies = {f"{number}": jpeg(number, (300, 200)) for number in range(4)}
    other_size = jpeg(2, (300, 200), progressive=True)
    blocked = BlockList(
        bodies=frozenset({hashlib.sha256(bodies["1"]).hexdigest()}),
        pictures=frozenset({perceptual_hash(drawn(2, (300, 200)))}),
    )
    found = fetched({**bodies, "again": other_size}, blocked, image_size=64)
    assert {url: str(each.outcome) for url, each in found.items()} == {
        "0": "fetched", "1": "blocked", "2": "blocked", "3": "fetched", "again": "blocked",
    }  # fmt: skip
    assert all((each.image is None) == (each.outcome is Outcome.BLOCKED) for each in found.values())
    assert found["1"].phash is None, "a blocked body is not even decoded"


def test_every_failure_has_its_word_and_no_row_is_lost() -> None:
    class Failing:
        def fetch(self, url: str) -> Any:
            if url == "bug":
                raise KeyError("remote text")
            raise EgressError(url, 429 if url == "rate_limited" else None)

    asked = [Answer(word) for word in ("dns", "rate_limited", "refused_address", "bug", "tls")]
    fetch_shard(asked, Failing(), Storing(threads=2), BlockList())
    assert [str(each.outcome) for each in asked] == ["dns", "rate_limited", "refused_address", "lost", "tls"]
    assert [each.http_status for each in asked] == [None, 429, None, None, None]
    assert not any(each.image for each in asked)


def test_any_number_of_threads_stores_the_same_bytes() -> None:
    bodies = {str(number): jpeg(number, (200 + number, 150)) for number in range(12)}
    runs = []
    for threads in (1, 8):
        asked = [Answer(url) for url in bodies]
        fetch_shard(asked, Shelf(bodies, LIMIT), Storing(threads=threads, image_size=64), BlockList())
        runs.append([(each.image, each.phash, each.outcome) for each in asked])
    assert runs[0] == runs[1]


def test_shards_at_once_do_not_mix_and_the_process_stays_as_it_was() -> None:
    lean_package("img2dataset")
    from img2dataset import downloader, resizer

    before = {module: dict(vars(module)) for module in (downloader, resizer)}
    opener = urllib.request._opener
    found: dict[int, dict[str, Answer]] = {}

    def work(start: int) -> None:
        found[start] = fetched({str(n): jpeg(n, (200, 150)) for n in range(start, start + 6)}, image_size=32 + start)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 6, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, answers in found.items():
        alone = fetched({str(n): jpeg(n, (200, 150)) for n in range(start, start + 6)}, image_size=32 + start)
        assert [each.image for each in answers.values()] == [each.image for each in alone.values()]
    assert {module: dict(vars(module)) for module in before} == before
    assert urllib.request._opener is opener


def test_a_release_that_is_laid_out_differently_is_named() -> None:
    lean_package("img2dataset")
    from img2dataset.downloader import Downloader

    with pytest.raises(ImportError, match=r"img2dataset.downloader has no get_picture: .* requirements.lock"):
        renamed(Downloader.download_shard, get_picture=None)


def test_we_say_who_we_are() -> None:
    assert Network(contact="mailto:us@example.org").user_agent == "internvl-pipeline/1 (+mailto:us@example.org)"
    with pytest.raises(ValueError, match="printable ASCII"):
        Network(contact="us\r\nHost: other")


def test_the_contact_of_an_installation_reaches_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERNVL_CONTACT", raising=False)
    assert Network().user_agent == "internvl-pipeline/1"
    monkeypatch.setenv("INTERNVL_CONTACT", "crawl@example.org")
    assert quiet_environment(settings())["INTERNVL_CONTACT"] == "crawl@example.org"
    assert Network().user_agent == "internvl-pipeline/1 (+crawl@example.org)"
    assert Network() == Network.model_validate({}) and "crawl" not in Network().model_dump_json()
    assert Network(contact="us@example.org").user_agent == "internvl-pipeline/1 (+us@example.org)"
    monkeypatch.setenv("INTERNVL_CONTACT", "us\r\nHost: other")
    with pytest.raises(ValueError, match="INTERNVL_CONTACT goes into a header: give printable ASCII on one line"):
        settings()


def test_no_rows_are_no_work() -> None:
    fetch_shard([], Shelf({}, LIMIT), Storing(), BlockList())
