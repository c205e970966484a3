"""The closed list of what can become of one listed row at download."""

from collections.abc import Mapping
from enum import StrEnum

from stages.manifest import Ledger


class Outcome(StrEnum):
    """Exactly one per listed row; remote error texts are mapped onto these and never stored."""

    FETCHED = "fetched"
    # Policy: the row is not wanted, or its owner does not want it to be taken.
    BLOCKED = "blocked"
    OPT_OUT = "opt_out"
    ROBOTS = "robots"
    REFUSED_SCHEME = "refused_scheme"
    REFUSED_ADDRESS = "refused_address"
    BAD_URL = "bad_url"
    HASH_MISMATCH = "hash_mismatch"
    # The web: the address gave no whole answer.
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    BAD_RESPONSE = "bad_response"
    BAD_REDIRECT = "bad_redirect"
    NOT_FOUND = "not_found"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_STATUS = "bad_status"
    # The body: there is an answer, and it is no picture that we decode.
    TOO_LARGE = "too_large"
    NOT_IMAGE = "not_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    DECODE = "decode"
    # A worker gave no answer for the row; it is tried again like a failure of the web.
    LOST = "lost"


REJECTED = frozenset(
    {
        Outcome.BLOCKED,
        Outcome.OPT_OUT,
        Outcome.ROBOTS,
        Outcome.REFUSED_SCHEME,
        Outcome.REFUSED_ADDRESS,
        Outcome.BAD_URL,
        Outcome.HASH_MISMATCH,
    }
)
"""Rows that a rule turned away; everything else that was not fetched failed."""

TRANSIENT = frozenset(
    {
        Outcome.DNS,
        Outcome.CONNECT,
        Outcome.TLS,
        Outcome.TIMEOUT,
        Outcome.RATE_LIMITED,
        Outcome.SERVER_ERROR,
        Outcome.LOST,
    }
)
"""Failures that a later pass may mend; nothing else is ever asked for again."""


def ledger_of(counts: Mapping[str, int]) -> Ledger:
    """Return the ledger of rows counted by outcome: fetched are kept, rules reject, the rest failed."""
    total = sum(counts.values())
    kept = counts.get(Outcome.FETCHED, 0)
    rejected = sum(counts.get(outcome, 0) for outcome in REJECTED)
    return Ledger(listed=total, kept=kept, rejected=rejected, failed=total - kept - rejected)
