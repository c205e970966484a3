"""robots.txt (RFC 9309): what a host lets one crawler fetch, and a cache of it."""

import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from infra.addresses import Target
from infra.egress_error import EgressError

MOST_BYTES = 512_000
MOST_RULES = 10_000
LIFE_SECONDS = 6 * 3600.0
FAILURE_LIFE_SECONDS = 60.0

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Rule(NamedTuple):
    """One Allow or Disallow line."""

    pattern: str
    allow: bool

    def matches(self, path: str) -> bool:
        """Say whether a path is meant; `*` is anything, a final `$` the end. Takes linear time per star."""
        anchored = self.pattern.endswith("$")
        first, *rest = self.pattern.removesuffix("$").split("*")
        if not path.startswith(first):
            return False
        if not rest:
            return not anchored or path == first
        at = len(first)
        for piece in rest[:-1]:
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        last = rest[-1]
        return len(path) - len(last) >= at and path.endswith(last) if anchored else path.find(last, at) >= 0


class Rules(NamedTuple):
    """What one host says to one crawler."""

    rules: tuple[Rule, ...] = ()

    def allow(self, path: str) -> bool:
        """Say whether a path may be fetched: the longest pattern that matches decides, and Allow wins a tie."""
        path = _normal(path)
        best = max((r for r in self.rules if r.matches(path)), key=lambda r: (len(r.pattern), r.allow), default=None)
        return best is None or best.allow or path == "/robots.txt"


def read_rules(text: bytes, token: str) -> Rules:
    """Return the rules for a product token, or those for `*` where no group names it.

    Groups that name the same crawler are one group; lines that are no rule are passed over.

    Args:
        text: The file, of which the first 512,000 bytes are read.
        token: Product token of the crawler, as `product_token` finds it.
    """
    named: list[Rule] = []
    for_all: list[Rule] = []
    seen_name, listening = False, [False, False]
    in_agents = False
    for line in re.split(r"\r\n|\r|\n", text[:MOST_BYTES].decode("utf-8-sig", "replace")):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if not in_agents:
                listening = [False, False]
            in_agents = True
            if value == "*":
                listening[1] = True
            elif product_token(value) == token:
                listening[0] = seen_name = True
        elif key in ("allow", "disallow"):
            in_agents = False
            if value and len(named) + len(for_all) < MOST_RULES:
                rule = Rule(_normal(value), key == "allow")
                named += [rule] * listening[0]
                for_all += [rule] * listening[1]
    return Rules(tuple(named if seen_name else for_all))


def product_token(user_agent: str) -> str:
    """Return the name by which a crawler is addressed: `our-crawler` of `our-crawler/1.0 (+contact)`."""
    found = re.match(r"[A-Za-z_-]+", user_agent)
    return found[0].lower() if found else ""


class RobotsCache:
    """The rules of every host met, each read once; several threads that need the same wait for one reader.

    No answer means nothing (RFC 9309, 2.3.1): 4xx other than 429 allows everything. A host whose file
    cannot be had (5xx, 429, unreachable) is not asked for pictures now: the fetch fails with that reason,
    which a later pass tries again.
    """

    def __init__(self, token: str, remembered: int = 200_000) -> None:
        """Look for the rules of a product token; keep those of the last hosts, up to `remembered` rules in all."""
        self._token, self._remembered, self._weight = token, remembered, 0
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Rules | EgressError]] = {}
        self._reading: dict[str, threading.Lock] = {}

    def allows(self, target: Target, read: Callable[[Target], bytes], seconds: float) -> bool:
        """Say whether an address may be fetched.

        Args:
            target: The address.
            read: Fetches the file, or raises EgressError.
            seconds: Longest wait for another thread that reads the same file.

        Raises:
            EgressError: The file could not be had.
        """
        site = f"{target.scheme}://{target.authority}"
        found = self._fresh(site)
        if found is None:
            found = self._once(site, target, read, seconds)
        if isinstance(found, EgressError):
            raise EgressError(found.reason, found.status, found.retry_after)
        return found.allow(target.path)

    def _fresh(self, site: str) -> Rules | EgressError | None:
        known = self._known.get(site)
        return known[1] if known and known[0] > time.monotonic() else None

    def _once(
        self, site: str, target: Target, read: Callable[[Target], bytes], seconds: float
    ) -> Rules | EgressError:
        with self._lock:
            turn = self._reading.setdefault(site, threading.Lock())
        if not turn.acquire(timeout=max(0.0, seconds)):
            raise EgressError("timeout")
        try:
            found = self._fresh(site)
            if found is not None:
                return found
            found = self._ask(target, read)
            life = FAILURE_LIFE_SECONDS if isinstance(found, EgressError) else LIFE_SECONDS
            with self._lock:
                self._forget(site)
                self._known[site] = (time.monotonic() + life, found)
                self._weight += _weight(found)
                while self._weight > self._remembered and len(self._known) > 1:
                    self._forget(next(iter(self._known)))
                self._reading.pop(site, None)
            return found
        finally:
            turn.release()

    def _forget(self, site: str) -> None:
        known = self._known.pop(site, None)
        self._weight -= _weight(known[1]) if known else 0

    def _ask(self, target: Target, read: Callable[[Target], bytes]) -> Rules | EgressError:
        try:
            text = read(target._replace(path="/robots.txt", url=f"{target.scheme}://{target.authority}/robots.txt"))
        except EgressError as error:
            if error.status is not None and 400 <= error.status < 500 and error.status != 429:
                return Rules()
            # A file that is no file (a loop, lying framing, 206) says nothing; a host that is down says: later.
            later = error.reason in ("dns", "connect", "tls", "timeout", "server_error", "rate_limited")
            return error if later else Rules()
        return read_rules(text, self._token)


def _weight(found: Rules | EgressError) -> int:
    """Return what a host costs to remember: one, and one per rule, so that no host can fill the memory."""
    return 1 + (len(found.rules) if isinstance(found, Rules) else 0)


def _normal(path: str) -> str:
    """Return a path or pattern in one spelling: non-ASCII escaped, needless escapes undone, others in capitals."""

    def one(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if character in _UNRESERVED else found[0].upper()

    return _ESCAPE.sub(one, path if path.isascii() else quote(path, safe="/%?=&:;,+@!$'()*~[]|"))
