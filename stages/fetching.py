"""One shard of addresses to stored pictures: img2dataset's worker over our egress and our decoder.

Its loop, threads, resize modes and encoder are used as they are. Three names that its functions look up
are ours: what fetches an address, what decodes a body, and what takes the samples. They are given to copies
of the functions, so nothing in the process is replaced for anybody else.
"""

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from infra.egress import EgressError
from stages.blocking import BlockList
from stages.borrowed import renamed
from stages.lean import lean_package
from stages.outcome import Outcome
from stages.pictures import MAX_SIDE, PictureError, Wanted, decode

logger = logging.getLogger(__name__)


class Storing(BaseModel):
    """How pictures are stored, and how many are fetched at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=256, ge=16, description="Size that pictures are stored at, in pixels.")
    resize_mode: Literal["keep_ratio", "keep_ratio_largest", "center_crop", "border", "no"] = "keep_ratio"
    encode_quality: int = Field(default=95, ge=1, le=100, description="JPEG quality of stored pictures.")
    max_pixels: int = Field(
        default=64_000_000, ge=1, le=178_000_000, description="Largest picture that is decoded, by its header."
    )
    min_decoded_share: float = Field(
        default=1,
        gt=0,
        le=1,
        description="Share of its rows from which a JPEG that breaks off is stored, cut to them; 1 refuses it.",
    )
    threads: int = Field(default=16, ge=1, description="Fetches at once per task.")

    @property
    def wanted(self) -> Wanted:
        """The least size that the resize mode needs."""
        side = 0 if self.resize_mode == "no" else self.image_size
        return Wanted(side, longer=self.resize_mode in ("keep_ratio_largest", "border"))


class Answered(Protocol):
    """What a fetch brings; `infra.egress.Fetched` has this shape."""

    @property
    def body(self) -> bytes: ...  # noqa: D102
    @property
    def tries(self) -> int: ...  # noqa: D102
    @property
    def latency_seconds(self) -> float: ...  # noqa: D102


class Fetcher(Protocol):
    """Whatever fetches addresses; `infra.egress.Guard` does."""

    def fetch(self, url: str) -> Answered:
        """Return the body of a picture or raise EgressError."""


@dataclass
class Answer:
    """What became of one address. Numbers are None where nothing came that has them."""

    url: str
    wants_md5: bool = False
    outcome: Outcome = Outcome.LOST
    http_status: int | None = None
    tries: int = 0
    latency_ms: int | None = None
    body_bytes: int | None = None
    body_sha256: str | None = None
    body_md5: str | None = None
    phash: int | None = None
    original_width: int | None = None
    original_height: int | None = None
    frames: int | None = None
    decoded_share: float | None = None
    width: int | None = None
    height: int | None = None
    image: bytes | None = None


class _Body(io.BytesIO):
    """A body on its way from the thread that fetched it to the decoder, with the answer it belongs to."""

    def __init__(self, data: bytes, answer: Answer) -> None:
        super().__init__(data)
        self.answer = answer


def fetch_shard(asked: Sequence[Answer], fetcher: Fetcher, storing: Storing, blocked: BlockList) -> None:
    """Fetch every address once and fill in its answer.

    A picture that is blocked is counted and never stored. An address whose fetch went wrong in a way
    that nobody foresaw stays `lost`.

    Args:
        asked: One per distinct address; changed in place.
        fetcher: The egress policy.
        storing: Sizes, quality, threads.
        blocked: The operator's list.
    """
    if not asked:
        return
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    lean_package("img2dataset")
    from img2dataset.downloader import Downloader

    work = renamed(
        Downloader.download_shard,
        download_image_with_retry=_fetching(asked, fetcher, blocked),
        write_stats=lambda *_: None,
    )
    with tempfile.TemporaryDirectory(prefix="internvl-download-") as folder:
        feather = Path(folder) / "rows.feather"
        table = pa.table({"url": [each.url for each in asked], "number": list(range(len(asked)))})
        with pa.OSFile(str(feather), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        downloader = Downloader(
            sample_writer_class=lambda *_: SimpleNamespace(write=_keeping(asked), close=lambda: None),
            resizer=_resizer(storing, blocked),
            thread_count=storing.threads,
            save_caption=False,
            extract_exif=False,
            output_folder=folder,
            column_list=["url", "number"],
            timeout=None,
            number_sample_per_shard=max(2, len(asked)),
            oom_shard_count=5,
            compute_hash=None,
            verify_hash_type=None,
            encode_format="jpg",
            retries=0,
            user_agent_token=None,
            disallowed_header_directives=None,
        )
        work(downloader, (0, str(feather)))


def _fetching(asked: Sequence[Answer], fetcher: Fetcher, blocked: BlockList) -> Callable[..., Any]:
    """Return what stands in for img2dataset's `download_image_with_retry`; it runs in many threads."""

    def fetch(row: tuple[int, str], **_: Any) -> tuple[int, _Body | None, str | None]:
        number, url = row
        answer = asked[number]
        try:
            got = fetcher.fetch(url)
        except EgressError as error:
            answer.outcome, answer.http_status = Outcome(error.reason), error.status
            answer.tries = error.tries
            answer.latency_ms = round(1000 * error.latency_seconds)
            return number, None, str(answer.outcome)
        except Exception as error:
            # One row must not take its part along; its text may be remote, its type is ours.
            logger.warning("a fetch failed in an unforeseen way: %s", type(error).__name__)
            return number, None, str(answer.outcome)
        answer.http_status, answer.tries = 200, got.tries
        answer.latency_ms = round(1000 * got.latency_seconds)
        answer.body_bytes = len(got.body)
        answer.body_sha256 = hashlib.sha256(got.body).hexdigest()
        if answer.wants_md5:
            answer.body_md5 = hashlib.md5(got.body, usedforsecurity=False).hexdigest()
        if blocked.body(answer.body_sha256):
            answer.outcome = Outcome.BLOCKED
            return number, None, str(answer.outcome)
        return number, _Body(got.body, answer), None

    return fetch


def _keeping(asked: Sequence[Answer]) -> Callable[..., None]:
    """Return what stands in for img2dataset's writers, whose files would not be whole."""

    def write(image: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        answer = asked[meta["number"]]
        if image is not None:
            answer.outcome, answer.image = Outcome.FETCHED, image
            answer.width, answer.height = meta["width"], meta["height"]

    return write


def _resizer(storing: Storing, blocked: BlockList) -> Any:
    """Return img2dataset's resizer over our decoder."""
    import cv2
    from img2dataset import resizer as theirs

    pixels: list[Any] = [None]

    def imencode(suffix: str, image: Any, params: Any) -> Any:
        # Ours are RGB, what OpenCV writes are BGR; swapped here, where the picture is smallest.
        return cv2.imencode(suffix, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR), params)

    shrink = renamed(
        theirs.Resizer.__call__,
        cv2=SimpleNamespace(**{**vars(cv2), "imdecode": lambda *_: pixels[0], "imencode": imencode}),
        # It silences OpenCV's decoders by closing the whole process's output, other threads' included.
        SuppressStdoutStderr=nullcontext,
    )

    class Resizer(theirs.Resizer):
        def __call__(self, stream: _Body, blurring_bbox_list: Any = None) -> tuple[Any, ...]:
            answer = stream.answer
            try:
                picture = decode(stream.getvalue(), storing.max_pixels, storing.wanted, storing.min_decoded_share)
            except PictureError as error:
                answer.outcome = error.outcome
                return None, None, None, None, None, str(error.outcome)
            answer.original_width, answer.original_height = picture.width, picture.height
            answer.phash = picture.phash
            answer.frames, answer.decoded_share = picture.frames, picture.decoded_share
            if blocked.picture(answer.phash):
                answer.outcome = Outcome.BLOCKED
                return None, None, None, None, None, str(answer.outcome)
            # A line of pixels is stored as it is: brought to the wanted side it would be millions long. Asked of
            # the pixels, as a picture that breaks off may be a line where the whole one was none.
            short, long = sorted(picture.pixels.shape[:2])
            self.resize_only_if_bigger = long * storing.image_size > MAX_SIDE * short
            # Stays so only where the picture cannot be brought to the size that is stored.
            answer.outcome, pixels[0] = Outcome.DECODE, picture.pixels
            found: tuple[Any, ...] = shrink(self, io.BytesIO(b"decoded above"))
            return found

    return Resizer(
        image_size=storing.image_size,
        resize_mode=storing.resize_mode,
        resize_only_if_bigger=False,
        encode_quality=storing.encode_quality,
    )
