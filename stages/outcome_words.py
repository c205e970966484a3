"""What each outcome means to a person: where the row was lost, why, and what can be done about it."""

from collections.abc import Mapping
from typing import NamedTuple

from stages.outcome import REJECTED, TRANSIENT, Outcome


class Rung(NamedTuple):
    """One step of the ladder from listed to decodable, with its definition."""

    name: str
    definition: str


LADDER = (
    Rung("listed", "Every row of the source's list, also those that the listing itself refused."),
    Rung("permitted", "Listed rows that may be asked for: no list of yours, no robots.txt, no rule forbids it."),
    Rung("attempted", "Permitted rows that a worker tried to fetch and gave an answer for."),
    Rung("fetched", "Attempted rows whose address sent a whole body that we may take and that the list promised."),
    Rung("decodable", "Fetched rows whose body is a picture within the pixel cap; these are stored."),
)
"""Each rung holds a part of the rung above it, so every share has a named denominator."""


class Words(NamedTuple):
    """One outcome: the rung that the row did not reach, what happened, and the next move."""

    lost_at: str
    meaning: str
    next_move: str


_LATER = "a later pass asks again"
_FINAL = "none: never asked for again"

WORDS: Mapping[Outcome, Words] = {
    Outcome.FETCHED: Words("", "A picture came, decodes, and is stored.", ""),
    Outcome.BLOCKED: Words("permitted", "A block list of yours names its address, domain or hash.", _FINAL),
    Outcome.ROBOTS: Words("permitted", "The site's robots.txt keeps us out.", _FINAL),
    Outcome.REFUSED_SCHEME: Words(
        "permitted", "The address is neither http nor https.", "pictures on this machine come in with --images"
    ),
    Outcome.REFUSED_ADDRESS: Words(
        "permitted",
        "The host is not on the public internet.",
        "allow a server of yours with --allow-host HOST:PORT",
    ),
    Outcome.BAD_URL: Words("permitted", "The text is no address.", "check that --url-column names the right column"),
    Outcome.LOST: Words("attempted", "The worker gave no answer for the row.", _LATER),
    Outcome.OPT_OUT: Words("fetched", "The answer's header reserves it against such use; it was not kept.", _FINAL),
    Outcome.HASH_MISMATCH: Words("fetched", "The body is not the one whose hash was known.", _FINAL),
    Outcome.DNS: Words("fetched", "The host's name has no address, or the resolver did not answer.", _LATER),
    Outcome.CONNECT: Words("fetched", "No connection to the host.", _LATER),
    Outcome.TLS: Words("fetched", "The host's certificate or handshake failed.", _LATER),
    Outcome.TIMEOUT: Words("fetched", "No whole answer before the deadline.", _LATER),
    Outcome.RATE_LIMITED: Words(
        "fetched", "The host asked us to slow down (429).", f"{_LATER}; lower the rate per host first"
    ),
    Outcome.SERVER_ERROR: Words("fetched", "The host failed (5xx).", _LATER),
    Outcome.BAD_RESPONSE: Words("fetched", "The answer's framing was malformed.", _FINAL),
    Outcome.BAD_REDIRECT: Words("fetched", "Too many redirects, or one to nowhere.", _FINAL),
    Outcome.NOT_FOUND: Words("fetched", "There is nothing at this address (404).", _FINAL),
    Outcome.GONE: Words("fetched", "It was taken down for good (410).", _FINAL),
    Outcome.FORBIDDEN: Words("fetched", "The host will not give it to us (401, 403, 451).", _FINAL),
    Outcome.BAD_STATUS: Words("fetched", "Another status than 200.", _FINAL),
    Outcome.TOO_LARGE: Words("fetched", "The body passes the byte cap.", "raise download.max_bytes, then run anew"),
    Outcome.NOT_IMAGE: Words("decodable", "The body is no picture: most often a page.", _FINAL),
    Outcome.TOO_MANY_PIXELS: Words(
        "decodable", "The header declares more pixels than are decoded.", "raise download.max_pixels, then run anew"
    ),
    Outcome.DECODE: Words("decodable", "It looks like a picture and does not decode.", _FINAL),
}

UNLISTED: Mapping[str, tuple[str, str]] = {
    "bad_row": ("The line has too few or too many values, or is no record.", "check how the list is quoted"),
    "bad_encoding": ("The address or the caption is no UTF-8.", "check the encoding of the list"),
    "no_url": ("The row has no address.", "check that --url-column names the right column"),
    "url_too_long": ("The address is longer than any server takes.", ""),
    "no_caption": ("The row has no caption.", "check that --caption-column names the right column"),
    "blocked_url": ("A block list of yours names its address.", _FINAL),
    "blocked_domain": ("A block list of yours names its domain.", _FINAL),
    "repeat": ("The same address with the same caption is listed already.", ""),
}
"""Why the listing refuses a row before any request: what it means, and the next move where there is one."""


def unlisted(reason: str) -> tuple[str, str]:
    """Return what a reason of the listing means, and the next move."""
    return UNLISTED.get(reason, ("The listing refused the row before any request.", ""))


OPT_OUTS = (
    (Outcome.OPT_OUT, "header of the answer (X-Robots-Tag, tdm-reservation)"),
    (Outcome.ROBOTS, "robots.txt of the site"),
    (Outcome.BLOCKED, "block lists of yours"),
)
"""Outcomes that say somebody does not want the picture to be taken, each with where it was said."""

REFUSALS = frozenset({Outcome.FORBIDDEN, Outcome.RATE_LIMITED, Outcome.ROBOTS, Outcome.OPT_OUT})
"""Outcomes by which a host, and not the network or our rules, turns us away."""

UNASKED = frozenset(outcome for outcome, words in WORDS.items() if words.lost_at == "permitted")
"""Outcomes that are reached without a request to the row's own address."""


def class_of(outcome: Outcome) -> str:
    """Return kept, rejected (a rule), may come back (a later pass), or failed (for good)."""
    if outcome is Outcome.FETCHED:
        return "kept"
    if outcome in REJECTED:
        return "rejected"
    return "may come back" if outcome in TRANSIENT else "failed"


def ladder(listed: int, outcomes: Mapping[str, int]) -> dict[str, int]:
    """Return rows per rung, given the rows of the source's list and the outcomes of those that were usable.

    Rows that the listing refused are lost at `permitted`, as those are that a rule turned away later.
    """
    rows, at = {"listed": listed}, sum(outcomes.values())
    for rung in LADDER[1:]:
        at -= sum(count for name, count in outcomes.items() if WORDS[Outcome(name)].lost_at == rung.name)
        rows[rung.name] = at
    return rows
