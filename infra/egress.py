"""What may leave this machine: http(s) to public addresses, checked on every hop, bounded in time and bytes.

`Guard.fetch` returns a whole body or raises an `EgressError` whose reason is from a closed list; remote text never
gets through. No proxy of the environment, no `.netrc`, no cookie is ever read: nothing here knows of them.
"""

import functools
import pickle
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NamedTuple

from infra.addresses import Target, follow, parse
from infra.asking import Asker, Clock, named
from infra.connections import Connections, reserve_descriptors
from infra.egress_error import REASONS, EgressError, reason_in, reason_of_status
from infra.hosts import Turns
from infra.http_head import Head, Headers
from infra.opt_out import OPT_OUTS
from infra.resolver import Answer, Lookup, Resolver, system_lookup
from infra.robots import MOST_BYTES, RobotsCache, product_token

__all__ = ["REASONS", "EgressError", "Fetched", "Guard", "Headers", "reason_in"]

RETRIED = frozenset({"rate_limited", "server_error", "connect"})
"""What a moment may mend; the other transient reasons are left to a later pass over the list."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BACK_OFF_SECONDS = 0.25


class Fetched(NamedTuple):
    """A whole body, and how it came."""

    body: bytes
    headers: Headers
    status: int
    url: str
    """The last address, after redirects."""
    tries: int
    """Requests for the address until this answer."""
    latency_seconds: float
    """From the first request on, without the waits for the host's turn."""


class Guard:
    """The egress policy of one process; made again from its settings when it travels to another one."""

    _shared: ClassVar[dict[bytes, "Guard"]] = {}
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        allow: Collection[str] = frozenset(),
        timeout_seconds: float = 10.0,
        deadline_seconds: float = 20.0,
        max_bytes: int = 20_000_000,
        max_hops: int = 5,
        retries: int = 1,
        retry_after_cap_seconds: float = 2.0,
        inspect: Callable[[bytes], str | None] | None = None,
        *,
        host_pause_cap_seconds: float = 600.0,
        user_agent: str = "internvl-pipeline/0.1",
        min_bytes_per_second: float = 1_000.0,
        grace_seconds: float = 5.0,
        per_host: int = 8,
        per_host_per_second: float | None = None,
        turns_folder: str | None = None,
        turn_seconds: float = 600.0,
        most_timeouts: int = 50,
        respect_robots: bool = False,
        opt_outs: Collection[str] = OPT_OUTS,
        blocked: Callable[[str, str], bool] | None = None,
        allow_downgrade: bool = False,
        ca_file: str | None = None,
        lookup: Lookup = system_lookup,
        fetches_at_once: int = 64,
    ) -> None:
        """Set the limits.

        Args:
            allow: `host:port` exceptions to the public-address rule, such as a loopback test web.
            timeout_seconds: Longest silence of a server, and longest wait for a name or a connection.
            deadline_seconds: For one whole fetch: names, connections, hops, body, tries and the waits between them.
            max_bytes: Largest body.
            max_hops: Most redirects followed.
            retries: Further tries where trying again at once can help.
            retry_after_cap_seconds: Longest wait before a further try; an address that wants more is not asked
                again by this fetch.
            inspect: Looks at the body before anybody decodes it; returns a reason to refuse, or None.
            host_pause_cap_seconds: Longest that a host is left alone at its own wish, by all fetches.
            user_agent: Who asks, with a way to reach them: `our-crawler/1.0 (+https://our.example/bot)`.
            min_bytes_per_second: Slower bodies are given up, after `grace_seconds`.
            grace_seconds: How long a body may come slowly.
            per_host: Most requests of one host at once.
            per_host_per_second: Most requests of one host per second.
            turns_folder: A folder on a local disk; the guards of all processes that name it share their turns.
            turn_seconds: Longest wait for a turn; then the fetch fails as `rate_limited`.
            most_timeouts: A host that timed out so often in a row is not asked for a minute: `timeout` at once.
            respect_robots: Read robots.txt and obey it.
            opt_outs: Words of X-Robots-Tag, and `tdm-reservation`, that keep a body out.
            blocked: Says of a host name and a whole address that they may not be asked, on every hop.
            allow_downgrade: Follow redirects from https to http; refused otherwise, as whoever is in
                between could answer.
            ca_file: Authorities to trust instead of the system's, such as a local one.
            lookup: Names to addresses, instead of the system's resolver.
            fetches_at_once: How many threads will fetch, for the check of the open-file limit.

        Raises:
            OSError: The process may not open so many files.
            ValueError: A limit that lets nothing through, or a user agent that is no header.
        """
        self._settings = {name: value for name, value in locals().items() if name != "self"}
        if not product_token(user_agent) or not user_agent.isascii() or not user_agent.isprintable():
            raise ValueError(
                f"user_agent={user_agent!r}: name a crawler and a contact, as in 'our-crawler/1.0 (+url)'"
            )
        self.allow, self.timeout, self.deadline = frozenset(allow), timeout_seconds, deadline_seconds
        self.max_bytes, self.max_hops, self.retries = max_bytes, max_hops, retries
        self.retry_after_cap, self.inspect = retry_after_cap_seconds, inspect
        self._opt_outs, self._blocked, self._downgrade = frozenset(opt_outs), blocked, allow_downgrade
        most_idle = min(256, 2 * fetches_at_once)
        reserve_descriptors(fetches_at_once + most_idle + 256)
        self._connections = Connections(
            ca_file, timeout_seconds, min_bytes_per_second, grace_seconds, most_idle=most_idle
        )
        self._resolver = Resolver(lookup)
        turns = Turns(per_host, per_host_per_second, turns_folder, turn_seconds, most_timeouts)
        self._asker = Asker(self._connections, turns, user_agent, host_pause_cap_seconds)
        self._robots = RobotsCache(product_token(user_agent)) if respect_robots else None

    def __reduce__(self) -> tuple[Callable[..., "Guard"], tuple[()]]:
        return functools.partial(type(self), **self._settings), ()

    @classmethod
    def shared(cls, **settings: Any) -> "Guard":
        """Return this process's guard with these settings: its connections, names and robots.txt outlive one part."""
        key = pickle.dumps(sorted(settings.items()))
        with cls._sharing:
            if key not in cls._shared:
                while len(cls._shared) >= 4:
                    cls._shared.pop(next(iter(cls._shared)))
                cls._shared[key] = cls(**settings)
            return cls._shared[key]

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close()

    def fetch(self, url: str) -> Fetched:
        """Fetch the body of an address.

        Raises:
            EgressError: Always with a reason of `REASONS`, or what `inspect` returned.
        """
        clock, tries = Clock(self.deadline), 0
        while True:
            tries += 1
            try:
                head, body, last = self._follow(parse(url), clock)
                if self.inspect and (refusal := self.inspect(body)):
                    raise EgressError(refusal, head.status)
                return Fetched(body, head.headers, head.status, last, tries, clock.latency)
            except EgressError as error:
                pause = self._pause(error, tries)
                if pause is None or pause >= clock.left:
                    raise EgressError(error.reason, error.status, error.retry_after, tries, clock.latency) from None
                time.sleep(pause)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Hand a body to an address, once, and follow no redirect; return the status, one of 2xx.

        Raises:
            EgressError: Always with a reason of `REASONS`.
        """
        target, clock = parse(url), Clock(self.deadline)
        answer = self._permitted(target, clock)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head_line = f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nConnection: close\r\n"
        request = f"{head_line}Content-Length: {len(body)}\r\n{fields}\r\n"
        wire = self._connections.take(target, answer.addresses, clock.stop, True)
        try:
            head = wire.ask(request.encode("ascii") + body, clock.stop)
        except OSError as error:
            raise named(error) from None
        finally:
            self._connections.leave(target, wire)
        if not 200 <= head.status < 300:
            raise EgressError(reason_of_status(head.status), head.status)
        return head.status

    def _pause(self, error: EgressError, tries: int) -> float | None:
        """Return how long to wait before another try, None where none is worth it."""
        if tries > self.retries or error.reason not in RETRIED or error.retry_after > self.retry_after_cap:
            return None
        # Our own patience with a host ended: no server said that.
        if error.reason == "rate_limited" and error.status is None:
            return None
        # Doubled each time, and never in step with the other threads.
        back_off = BACK_OFF_SECONDS * 2.0 ** (tries - 1) * random.uniform(0.5, 1.0)
        return max(error.retry_after, min(back_off, max(self.retry_after_cap, BACK_OFF_SECONDS)))

    def _follow(self, target: Target, clock: Clock) -> tuple[Head, bytes, str]:
        """Return what the last hop answers: a 200 with its body; everything else raises."""

        def ask(hop: Target) -> tuple[Head, bytes]:
            answer = self._permitted(hop, clock)
            if self._robots and not self._robots.allows(hop, lambda file: self._robots_of(file, clock), clock.left):
                raise EgressError("robots")
            return self._asker.ask(hop, answer.addresses, clock, self.max_bytes, self._opt_outs)

        return self._last_hop(target, ask)

    def _robots_of(self, file: Target, clock: Clock) -> bytes:
        """Return a robots.txt, through the same checks and out of the same time as what it is read for."""

        def ask(hop: Target) -> tuple[Head, bytes]:
            return self._asker.ask(hop, self._permitted(hop, clock).addresses, clock, MOST_BYTES, (), cut=True)

        return self._last_hop(file, ask)[1]

    def _last_hop(self, target: Target, ask: Callable[[Target], tuple[Head, bytes]]) -> tuple[Head, bytes, str]:
        seen = set()
        for _ in range(self.max_hops + 1):
            seen.add(target.url)
            head, body = ask(target)
            if head.status == 200:
                return head, body, target.url
            if head.status not in REDIRECTS:
                raise self._asker.refusal(target, head)
            onward = follow(target, head.headers.get("location"))
            if onward.url in seen or (target.scheme == "https" != onward.scheme and not self._downgrade):
                break
            target = onward
        raise EgressError("bad_redirect")

    def _permitted(self, target: Target, clock: Clock) -> Answer:
        """Return the checked addresses of a hop: every answer of the resolver must be public."""
        if self._blocked and self._blocked(target.host, target.url):
            raise EgressError("blocked")
        if clock.left <= 0:
            raise EgressError("timeout")
        answer = self._resolver.resolve(target.host, min(self.timeout, clock.left))
        if not (answer.public and target.speaks_http) and target.endpoint not in self.allow:
            raise EgressError("refused_address")
        return answer
