"""Rows, counts and galleries for pages of the filter report, and what stands in the HTML of one."""

import hashlib
import io
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from random_rows import rows as random_rows

from filters.cube import Cube
from filters.digits import judge_with_cube
from filters.funnel import Funnel
from filters.policies import Policy, caption_quality
from stages.filter_report import render
from stages.report.applying import Applying
from stages.report.gallery import edges_of
from stages.report.shown import Gallery
from stages.report.survey import Survey, sample_of

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</style><svg onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egpj.exe\u2066 hidden \u200b zero",
    "a" + "\u0301" * 50,
    "x" * 5000,
    "' onmouseover='alert(1)",
    "<!--",
    "&lt;b&gt;&#x3c;img src=x onerror=alert(1)&#x3e;",
    "\x00\x07\x1b[31m",
    "\u2028\u2029",
    "<iframe srcdoc='<script>alert(1)</script>'>",
)


class Found(HTMLParser):
    """Tags, attributes and scripts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append(dict(attrs))


def uid(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:16]


def picture(side: int = 300, seed: int = 0) -> bytes:
    """Return a noisy JPEG, which compresses badly, with EXIF."""
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    image, out = Image.fromarray(noise), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "<script>alert('exif')</script>"
    image.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


class Judged:
    """Rows with verdicts, counts and a gallery."""

    def __init__(self, policy: Policy, columns: dict[str, Any]) -> None:
        self.policy, self.columns = policy, columns
        self.size = len(columns["caption"])
        self.uids = [uid(number) for number in range(self.size)]
        self.reasons, self.funnel, self.cube = judge_with_cube(policy.filters, columns, self.size)
        self.languages = self.funnel.masks_by_language
        self.seen = Survey(self.languages, sample_of(policy, self.uids, self.reasons, columns), self.size)
        self.gallery = Gallery(edges_of(policy, self.seen, self.cube), self.languages, self.size, self.size)

    def page(self, source: str = "laion_en", **more: Any) -> str:
        """Return the page about these rows."""
        given: dict[str, Any] = {
            "source": source,
            "policy": self.policy,
            "funnel": self.funnel,
            "listed": self.size + 50,
            "fetched": self.size,
            "outcomes": {"fetched": self.size, "not_found": 40, "robots": 10},
            "provenance": {"artifact": f"verdicts/caption_quality/{source}@tiny"},
            "cube": self.cube,
            "gallery": self.gallery,
            "applying": Applying("tiny", "tiny"),
        }
        return render(**(given | more))


def judged(size: int = 600, seed: int = 0, policy: Policy | None = None) -> Judged:
    """Return random rows under the strict policy."""
    return Judged(policy or caption_quality("laion_en"), random_rows(seed, size))


def judged_captions(captions: Sequence[str], languages: Sequence[str] | None = None) -> Judged:
    """Return these captions under the strict policy."""
    columns: dict[str, Any] = {
        "caption": pa.array(list(captions), pa.string()),
        "language": pa.array(list(languages or ["en"] * len(captions)), pa.string()),
        "caption_frequency": np.ones(len(captions), dtype=np.float32),
    }
    return Judged(caption_quality("laion_en"), columns)


__all__ = ["HOSTILE", "Cube", "Found", "Funnel", "Judged", "judged", "judged_captions", "picture", "uid"]
