"""What the headers of an answer say about its use: X-Robots-Tag and the TDM reservation."""

import re
from collections.abc import Collection

from infra.http_head import Headers

OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none", "tdm-reservation"})
"""Words that keep a picture out; `none` is noindex and nofollow."""

_TOKEN = re.compile(r"[A-Za-z0-9_*-]+\Z")
_VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})


def directives(value: str, token: str) -> set[str]:
    """Return the words of one X-Robots-Tag header that are meant for us.

    `otherbot: noai, nofollow` speaks to another crawler up to the end of the header or the next name;
    `max-image-preview:large, noai` holds two directives, of which the first has a value.
    """
    found, meant = set(), True
    for piece in value.split(","):
        name, colon, rest = (part.strip().lower() for part in piece.partition(":"))
        if colon and name in _VALUED:
            continue
        if colon and _TOKEN.match(name):
            meant = name in ("*", token)
            name = rest
        if meant and name:
            found.add(name)
    return found


def opted_out(headers: Headers, token: str, words: Collection[str] = OPT_OUTS) -> bool:
    """Say whether an answer asks not to be used, in any of its headers."""
    if "tdm-reservation" in words and (headers.get("tdm-reservation") or "").strip() == "1":
        return True
    return any(not directives(value, token).isdisjoint(words) for value in headers.get_all("x-robots-tag"))
