"""What may be asked for: http(s) addresses of the public internet, in any spelling that hides one."""

import functools
import ipaddress
import re
import socket
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import idna

from infra.egress_error import EgressError

LONGEST_URL = 8_192
DEFAULT_PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})\Z")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")
_PATH_SAFE = "/%?=&:;,+@!$'()*~[]|"

# Public by the registry's word, private by what answers there.
_REFUSED = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments; one cloud keeps its metadata service there
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # the platform service that every virtual machine of one cloud reaches
        "2001::/23",  # Teredo and other protocol assignments
        "64:ff9b:1::/48",  # local NAT64: leads wherever its operator points it
    )
)
# Ports where another protocol listens, to which a request could say something (Fetch standard, "port blocking").
_OTHER_PROTOCOLS = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
))  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")


@functools.lru_cache(maxsize=65_536)
def is_public(address: str) -> bool:
    """Say whether an IP address belongs to the public internet, seen through every wrapping of IPv4 in IPv6.

    A network may translate prefixes of its own that nobody outside knows of: a second fence (a network
    policy of the worker machines) is wise wherever something private listens.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if any(found in block for block in _REFUSED):
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found not in _UNICAST:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def literal(host: str) -> str | None:
    """Return the IP address that a host name spells (`127.1`, `0x7f000001`, `::1`), None for a true name."""
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    if not host[:1].isdigit():
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


class Target(NamedTuple):
    """One address, taken apart as it will be asked for."""

    scheme: str
    host: str
    port: int
    path: str
    url: str

    @property
    def speaks_http(self) -> bool:
        """False for a port that belongs to another protocol, such as mail."""
        return self.port not in _OTHER_PROTOCOLS

    @property
    def endpoint(self) -> str:
        """The `host:port` that an allow-list names; IPv6 in brackets."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def authority(self) -> str:
        """The value of the Host header; also the name under which a host is treated politely."""
        name = _bracketed(self.host)
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"


def parse(url: str) -> Target:
    """Take an address apart.

    Raises:
        EgressError: `refused_scheme` for anything but http(s), `bad_url` for what is no address: a user name,
            blanks, control characters, a host that no name server knows how to spell, over 8,192 characters.
    """
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in DEFAULT_PORTS:
            raise EgressError("refused_scheme")
        if len(url) > LONGEST_URL or parts.username is not None or _BLANK_OR_CONTROL.search(url):
            raise EgressError("bad_url")
        host, port = _ascii(parts.hostname or ""), parts.port
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = path if path[0] == "/" else "/" + path
        return Target(scheme, host, DEFAULT_PORTS[scheme] if port is None else port, quote(path, _PATH_SAFE), url)
    except (ValueError, UnicodeError):
        raise EgressError("bad_url") from None


def follow(base: Target, location: str | None) -> Target:
    """Return where a redirect leads.

    Raises:
        EgressError: `bad_redirect` for a missing or broken Location, `refused_scheme` for one that leaves http(s).
    """
    if not location or any(c < " " or c == "\x7f" for c in location):
        raise EgressError("bad_redirect")
    try:
        # Header bytes come as Latin-1; what is written there in our days is UTF-8.
        text = location.encode("latin-1").decode("utf-8", "replace").replace(" ", "%20")
        return parse(urljoin(base.url, text))
    except EgressError as error:
        raise EgressError("bad_redirect" if error.reason == "bad_url" else error.reason) from None
    except ValueError:
        raise EgressError("bad_redirect") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ascii(host: str) -> str:
    """Return a host name as name servers spell it; IPv6 comes without brackets, and may not name an interface."""
    if "%" in host:
        raise EgressError("bad_url")
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    host = host.removesuffix(".")
    if not _NAME.match(host) or ".." in host or max(map(len, host.split("."))) > 63:
        raise EgressError("bad_url")
    return host.lower()
