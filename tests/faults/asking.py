"""Asking the hostile web through a guard, and the one word that comes of it."""

from typing import Any

from hostile_web import HostileWeb

from infra.egress import EgressError, Fetched, Guard


def guard(web: HostileWeb, **limits: Any) -> Guard:
    """Return a guard that may ask this web alone."""
    settings = {"deadline_seconds": 20, "retries": 0, "max_bytes": 2_000_000, "ca_file": web.ca_file, **limits}
    return Guard(web.endpoints, **settings)


def verdict(guard: Guard, url: str) -> str | None:
    """Return the reason for which an address is refused, None where it is fetched."""
    try:
        assert isinstance(guard.fetch(url), Fetched)
    except EgressError as error:
        assert str(error) == f"egress={error.reason};status={error.status or 0}", "no remote word in it"
        return error.reason
    return None
