"""How a fetch fails: one word of a closed list, and numbers; nothing that a server wrote."""

import email.utils
import time


class EgressError(OSError):
    """A fetch that was refused or failed; `reason` is one word of `REASONS`."""

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        retry_after: float = 0.0,
        tries: int = 1,
        latency_seconds: float = 0.0,
    ) -> None:
        """Keep the reason and what was measured on the way.

        Args:
            reason: A word of `REASONS`, or what `Guard.inspect` returned.
            status: The HTTP status, when one came.
            retry_after: Seconds that the server asked to be left alone, 0 when it did not ask.
            tries: Requests for the address until this was the answer.
            latency_seconds: Time from the first request on, without the waits for the host's turn.
        """
        super().__init__(f"egress={reason};status={status or 0}")
        self.reason, self.status, self.retry_after = reason, status, retry_after
        self.tries, self.latency_seconds = tries, latency_seconds

    def __reduce__(self) -> tuple[type["EgressError"], tuple[str, int | None, float, int, float]]:
        return EgressError, (self.reason, self.status, self.retry_after, self.tries, self.latency_seconds)


REASONS = frozenset(
    {
        "refused_scheme",
        "refused_address",
        "bad_url",
        "blocked",
        "robots",
        "opt_out",
        "dns",
        "connect",
        "tls",
        "timeout",
        "bad_response",
        "bad_redirect",
        "not_found",
        "gone",
        "forbidden",
        "rate_limited",
        "server_error",
        "bad_status",
        "too_large",
    }
)
"""Every reason that the egress itself gives; `Guard.inspect` may add its own."""


def reason_in(message: str) -> tuple[str, int | None] | None:
    """Return (reason, HTTP status) from the text of an EgressError, None for any other text."""
    if not message.startswith("egress="):
        return None
    reason, _, status = message.removeprefix("egress=").partition(";status=")
    return reason, int(status) or None


def reason_of_status(status: int) -> str:
    """Return the word for an HTTP status that is neither 200 nor a redirect."""
    named = {404: "not_found", 410: "gone", 401: "forbidden", 403: "forbidden", 451: "forbidden", 429: "rate_limited"}
    return named.get(status) or ("server_error" if 500 <= status <= 599 else "bad_status")


def seconds_until(retry_after: str | None) -> float:
    """Return what a `Retry-After` header asks for in seconds, written as a number or as a date; 0 for nonsense."""
    value = (retry_after or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
