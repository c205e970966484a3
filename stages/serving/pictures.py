"""Foreign pictures of a request: judged by magic bytes and header, decoded under a cap, encoded anew.

Nothing that a stranger encoded reaches the engine: it gets a PNG of the pixels that were decoded here,
upright, the first frame of several, transparent ones on white.
"""

import base64
import binascii
import hashlib
import io
import re
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from infra.egress_error import EgressError
from stages.fetchers import Network, guarded
from stages.outcome import Outcome
from stages.picture_headers import sniff
from stages.pictures import PictureError, decode
from stages.serving.limits import Limits
from stages.serving.refusal import Refused

KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
TAKEN = "JPEG, PNG, WebP and GIF are taken"
_DATA = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.ASCII)

_WEB = {
    "refused_scheme": "is neither http nor https; send it as a data: url",
    "refused_address": "does not lead to the public internet, and private addresses are not asked; "
    "send the picture as a data: url, or start the server with --allow-host HOST:PORT",
    "bad_url": "is no address; send a data: url, or a whole http(s) address",
    "not_found": "was not found there (404); check the address",
    "gone": "is gone (410); use another picture",
    "forbidden": "may not be read by us (401, 403 or 451); send the picture as a data: url",
    "timeout": "did not answer in time; send the picture as a data: url",
    "opt_out": "is reserved by its owner against such use; use another picture",
    "bad_redirect": "leads round in circles, or from https to http; name the last address itself",
}


@dataclass(frozen=True, eq=False)
class SeenPicture:
    """A picture as the engine will get it.

    Attributes:
        image: Its pixels in RGB, upright.
    """

    image: Image.Image

    @cached_property
    def png(self) -> bytes:
        """The pixels, encoded by us and without loss."""
        out = io.BytesIO()
        self.image.save(out, "PNG", compress_level=1)
        return out.getvalue()

    @cached_property
    def digest(self) -> str:
        """A name by content."""
        return hashlib.sha256(self.png).hexdigest()[:32]

    @property
    def data_url(self) -> str:
        """`png` as an address that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def seen(body: bytes, limits: Limits, what: str = "the picture") -> SeenPicture:
    """Decode the bytes of a picture.

    Args:
        body: What was sent.
        limits: Of bytes and pixels.
        what: How the picture is called in a refusal.

    Raises:
        Refused: It is too large, none of the four formats, or does not decode whole.
    """
    if len(body) > limits.picture_bytes:
        raise Refused(
            413, f"{what} has {len(body):,} bytes, at most {limits.picture_bytes:,} are taken; send a smaller one",
            code="picture_too_large", param="messages",
        )  # fmt: skip
    if sniff(body) not in KINDS:
        drawn = body[:512].lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<svg>", b"<!doc")
        raise Refused(
            400, f"{what} is {'an SVG or another text' if drawn else 'no picture of a known format'}; {TAKEN}: "
            "save it as one of these", code="invalid_image_format", param="messages",
        )  # fmt: skip
    try:
        found = decode(body, limits.picture_pixels)
    except PictureError as error:
        raise _undecodable(error.outcome, limits, what) from None
    return SeenPicture(Image.fromarray(found.pixels).convert("RGB"))


def _undecodable(outcome: Outcome, limits: Limits, what: str) -> Refused:
    if outcome == Outcome.TOO_MANY_PIXELS:
        return Refused(
            413, f"{what} has more than {limits.picture_pixels:,} pixels, or costs as much to decode; "
            "send a smaller one", code="picture_too_large", param="messages",
        )  # fmt: skip
    return Refused(
        400, f"{what} is damaged or breaks off: it does not decode whole; send it again, or save it anew",
        code="image_parse_error", param="messages",
    )  # fmt: skip


def from_url(url: str, limits: Limits, what: str = "the picture") -> SeenPicture:
    """Return the picture that a `data:` url holds or an http(s) address leads to; this waits for the web.

    Raises:
        Refused: There is none, or it may not be had; the message says why and what to do.
    """
    if url[:5].lower() == "data:":
        return seen(_held(url, limits, what), limits, what)
    scheme = url.partition(":")[0].lower()
    if scheme not in ("http", "https"):
        raise Refused(
            400, f"{what} is named by {url[:40]!r}, which is neither a data: url nor an http(s) address; files of "
            "this machine are not read: send the bytes as data:image/png;base64,...",
            code="invalid_image_url", param="messages",
        )  # fmt: skip
    return seen(_fetched(url, limits, what), limits, what)


def _held(url: str, limits: Limits, what: str) -> bytes:
    """Return the bytes in a `data:` url."""
    head = _DATA.match(url)
    if head is None or ";base64" not in head[2].lower().replace(" ", ""):
        raise Refused(
            400, f"{what}: the data: url is not in base64; write data:image/png;base64,... with the file's bytes",
            code="invalid_image_url", param="messages",
        )  # fmt: skip
    declared = head[1].strip().lower().replace("image/jpg", "image/jpeg")
    if declared not in KINDS.values():
        raise Refused(
            400, f"{what} says that it is {declared[:60] or 'of no type'!r}; {TAKEN}: {', '.join(KINDS.values())}",
            code="invalid_image_format", param="messages",
        )  # fmt: skip
    text = url[head.end() :]
    if len(text) * 3 // 4 > limits.picture_bytes + 3:
        raise Refused(
            413, f"{what} has about {len(text) * 3 // 4:,} bytes, at most {limits.picture_bytes:,} are taken; "
            "send a smaller one", code="picture_too_large", param="messages",
        )  # fmt: skip
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            400, f"{what}: what follows base64, is not base64; encode the file's bytes without line ends",
            code="invalid_base64", param="messages",
        ) from None  # fmt: skip


def _fetched(url: str, limits: Limits, what: str) -> bytes:
    """Return what an http(s) address sends, by the rules of all our fetches."""
    network = Network(
        timeout_seconds=min(10.0, limits.fetch_seconds),
        deadline_seconds=limits.fetch_seconds,
        retries=0,
        max_bytes=limits.picture_bytes,
        # A person names one picture here and sees it; robots.txt is for those who go from page to page.
        respect_robots=False,
        allow_hosts=limits.allow_hosts,
    )
    try:
        return guarded(network, limits.picture_pixels, threads=limits.at_once).fetch(url).body
    except EgressError as error:
        if error.reason in (Outcome.TOO_MANY_PIXELS, Outcome.DECODE):
            raise _undecodable(Outcome(error.reason), limits, what) from None
        if error.reason == Outcome.NOT_IMAGE:
            said = f"leads to something that is no picture; {TAKEN}"
        elif error.reason == "too_large":
            said = f"leads to more than {limits.picture_bytes:,} bytes; send a smaller one"
        else:
            said = _WEB.get(error.reason, f"could not be fetched ({error.reason}); send it as a data: url")
        raise Refused(
            400, f"{what}: its address {said}", code="invalid_image_url", param="messages"
        ) from None  # fmt: skip
