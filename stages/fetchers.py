"""What fetches: the egress guard by a recipe's limits, or pictures that are on this machine already."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.egress import EgressError, Guard
from infra.settings import settings
from stages.blocking import read_addresses
from stages.fetching import Answered, Fetcher
from stages.manifest import ManifestError
from stages.pictures import inspect
from stages.sources.own_pictures import pictures_named

IMAGES_SCHEME = "images:///"


class Network(BaseModel):
    """What a fetch may cost, and how we behave towards those we ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: float = Field(default=10, gt=0, description="Per network read.")
    deadline_seconds: float = Field(default=20, gt=0, description="For one whole fetch.")
    retries: int = Field(default=1, ge=0, le=5, description="Further tries where trying again can help.")
    max_bytes: int = Field(default=20_000_000, ge=1, description="Largest body that is read.")
    min_bytes_per_second: int = Field(default=1_000, ge=0, description="Slower bodies are given up; 0 waits.")
    per_host: int = Field(default=8, ge=1, description="Connections to one host at once.")
    per_host_per_second: float = Field(default=0, ge=0, description="Requests to one host a second; 0 is no limit.")
    host_pause_cap_seconds: float = Field(
        default=600, ge=0, description="Longest that a host is left alone when its Retry-After asks for it."
    )
    respect_robots: bool = Field(default=True, description="Ask for robots.txt once per host, and obey it.")
    contact: str = Field(
        default="",
        max_length=200,
        description="Address or url in the user agent for those who run the servers; INTERNVL_CONTACT when empty.",
    )
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port that may be private, such as a test web.")

    @field_validator("contact")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("contact goes into a header: give printable ASCII on one line")
        return value

    @property
    def user_agent(self) -> str:
        """What we say we are; the contact is this installation's where the recipe names none."""
        contact = self.contact or settings().contact
        return f"internvl-pipeline/1 (+{contact})" if contact else "internvl-pipeline/1"


class _Fetched(NamedTuple):
    body: bytes
    tries: int = 1
    latency_seconds: float = 0.0


class Shelf:
    """Hands out pictures that are already here; asks the network for nothing."""

    def __init__(self, pictures: dict[str, bytes], max_pixels: int) -> None:
        """Hold pictures by their `images:///` address."""
        self._pictures, self._max_pixels = pictures, max_pixels

    def fetch(self, url: str) -> Answered:
        """Return a picture.

        Raises:
            EgressError: `not_found`, or why it must not be decoded.
        """
        body = self._pictures.get(url)
        if body is None:
            raise EgressError("not_found")
        if refusal := inspect(body, self._max_pixels):
            raise EgressError(refusal)
        return _Fetched(body)


def shelf(folder: str, urls: set[str], max_pixels: int) -> Shelf:
    """Return those pictures of a folder or tar that are asked for."""
    names = {url.removeprefix(IMAGES_SCHEME) for url in urls if url.startswith(IMAGES_SCHEME)}
    found = pictures_named(Path(folder), names)
    return Shelf({IMAGES_SCHEME + name: data for name, data in found.items()}, max_pixels)


class BlockedAddresses(NamedTuple):
    """Block-lists by their files, as what travels to a worker and is the same in each."""

    urls: tuple[str, ...]
    domains: tuple[str, ...]
    digest: str

    def names(self, host: str, url: str) -> bool:
        """Say whether a host or an address may not be asked."""
        lists = read_addresses(*self)
        return lists.below(host) or lists.address(url)


def guarded(network: Network, max_pixels: int, threads: int, blocked: BlockedAddresses | None = None) -> Fetcher:
    """Return this process's egress policy with a recipe's limits; hosts' limits hold for the whole machine.

    Raises:
        ManifestError: The folder in which processes find each other is not ours alone.
    """
    try:
        return _shared(network, max_pixels, threads, blocked)
    except PermissionError as error:
        raise ManifestError(str(error)) from None


def _shared(network: Network, max_pixels: int, threads: int, blocked: BlockedAddresses | None) -> Guard:
    return Guard.shared(
        allow=frozenset(network.allow_hosts),
        timeout_seconds=network.timeout_seconds,
        deadline_seconds=network.deadline_seconds,
        max_bytes=network.max_bytes,
        retries=network.retries,
        inspect=partial(inspect, max_pixels=max_pixels),
        user_agent=network.user_agent,
        min_bytes_per_second=network.min_bytes_per_second,
        host_pause_cap_seconds=network.host_pause_cap_seconds,
        per_host=network.per_host,
        per_host_per_second=network.per_host_per_second or None,
        turns_folder=f"{tempfile.gettempdir()}/internvl-turns-{os.getuid()}",
        respect_robots=network.respect_robots,
        fetches_at_once=threads,
        blocked=blocked.names if blocked else None,
    )
