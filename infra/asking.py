"""One question to one host: in its turn, on a pooled connection, out of the time of its fetch."""

import ssl
import time
from collections.abc import Collection

from infra.addresses import Target
from infra.connections import Connections
from infra.egress_error import EgressError, reason_of_status, seconds_until
from infra.hosts import Turns
from infra.http1 import Wire
from infra.http_head import Head
from infra.opt_out import opted_out
from infra.robots import product_token

HOLD_SECONDS = 0.25
DRAINED_BYTES = 65_536
DRAIN_SECONDS = 0.5


class Clock:
    """The time of one fetch; waits for a host's turn are ours, so they are not charged to it."""

    def __init__(self, seconds: float) -> None:
        """Start the time."""
        self.started = time.monotonic()
        self.stop, self.waited = self.started + seconds, 0.0

    def excuse(self, seconds: float) -> None:
        """Take a wait out of account."""
        self.stop += seconds
        self.waited += seconds

    @property
    def left(self) -> float:
        """Seconds until the fetch must be over."""
        return self.stop - time.monotonic()

    @property
    def latency(self) -> float:
        """Seconds since the start, without the excused ones."""
        return time.monotonic() - self.started - self.waited


class Asker:
    """Asks hosts, politely."""

    def __init__(self, connections: Connections, turns: Turns, user_agent: str, hold_cap_seconds: float) -> None:
        """Ask as `user_agent`; leave a host alone at its wish, for at most `hold_cap_seconds`."""
        self._connections, self._turns, self._hold_cap = connections, turns, hold_cap_seconds
        self._token = product_token(user_agent)
        self._fields = f"User-Agent: {user_agent}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\r\n"

    def ask(
        self,
        target: Target,
        addresses: tuple[str, ...],
        clock: Clock,
        most: int,
        opt_outs: Collection[str],
        cut: bool = False,
    ) -> tuple[Head, bytes]:
        """Return the answer of a host, with its body when the status is 200.

        Args:
            target: What to ask for.
            addresses: Checked addresses, of which one is connected to.
            clock: The time of the fetch, from which the wait for a turn is taken out.
            most: Largest body.
            opt_outs: Words in the headers that keep a body out.
            cut: Return the first `most` bytes of a larger body.

        Raises:
            EgressError: `connect`, `tls`, `timeout`, `bad_response`, `too_large`, `opt_out`, `rate_limited`.
        """
        with self._turns.at(target.authority) as waited:
            clock.excuse(waited)
            try:
                found = self._on_some_connection(target, addresses, clock, most, opt_outs, cut)
            except EgressError as error:
                self._turns.note(target.authority, timed_out=error.reason == "timeout")
                raise
            self._turns.note(target.authority, timed_out=False)
            return found

    def refusal(self, target: Target, head: Head) -> EgressError:
        """Return what a status other than 200 means, and leave the host alone if it asks for that."""
        wish = seconds_until(head.headers.get("retry-after")) if head.status in (429, 503) else 0.0
        if head.status == 429 or wish:
            self._turns.hold(target.authority, min(wish or HOLD_SECONDS, self._hold_cap))
        return EgressError(reason_of_status(head.status), head.status, wish)

    def _on_some_connection(
        self,
        target: Target,
        addresses: tuple[str, ...],
        clock: Clock,
        most: int,
        opt_outs: Collection[str],
        cut: bool,
    ) -> tuple[Head, bytes]:
        """Ask on an idle connection, and once more on a new one where that turns out to have died."""
        for fresh in (False, True):
            wire = self._connections.take(target, addresses, clock.stop, fresh)
            try:
                return self._exchange(target, wire, clock, most, opt_outs, cut)
            except OSError as error:
                wire.close()
                if wire.reused and not wire.answering and not isinstance(error, TimeoutError):
                    continue
                raise named(error) from None
            except BaseException:
                wire.close()
                raise
        raise EgressError("connect")

    def _exchange(
        self, target: Target, wire: Wire, clock: Clock, most: int, opt_outs: Collection[str], cut: bool
    ) -> tuple[Head, bytes]:
        request = f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n{self._fields}".encode("ascii")
        head = wire.ask(request, clock.stop)
        if head.status == 200:
            if opt_outs and opted_out(head.headers, self._token, opt_outs):
                raise EgressError("opt_out", 200)
            body, whole = wire.body(head, most, clock.stop, cut), True
        else:
            body, whole = b"", head.keeps_open and _drained(wire, head, clock)
        if head.keeps_open and whole:
            self._connections.give_back(target, wire)
        else:
            self._connections.leave(target, wire)
        return head, body


def _drained(wire: Wire, head: Head, clock: Clock) -> bool:
    """Read the page of an error away where it is small and quick, so that the connection can be kept."""
    try:
        wire.body(head, DRAINED_BYTES, min(clock.stop, time.monotonic() + DRAIN_SECONDS))
    except OSError:
        return False
    return True


def named(error: OSError) -> EgressError:
    """Map what broke a connection onto the closed list."""
    if isinstance(error, EgressError):
        return error
    if isinstance(error, TimeoutError):
        return EgressError("timeout")
    return EgressError("tls" if isinstance(error, ssl.SSLError) else "connect")
