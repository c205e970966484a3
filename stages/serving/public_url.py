"""The address at which others see a server that stands behind a proxy."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from stages.manifest import ManifestError

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_DEFAULT = {"https": 443, "http": 80}


class PublicUrl(NamedTuple):
    """Where a proxy lets others in."""

    scheme: str
    host: str
    """As browsers write it in the `Host` header: small letters, and a port unless it is the scheme's own."""
    prefix: str = ""
    """Path under which the proxy shows the server, such as `/chat`; empty where it has the host to itself."""

    @classmethod
    def of(cls, url: str) -> "PublicUrl":
        """Read an address.

        Raises:
            ManifestError: It is none that a proxy can have.
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise _wrong(url, str(error)) from None
        prefix = parts.path.rstrip("/")
        if parts.scheme not in _DEFAULT or not parts.hostname:
            raise _wrong(url, "it does not begin with https:// and a host")
        if parts.username is not None or parts.query or parts.fragment:
            raise _wrong(url, "it has more than a host, a port and a path")
        if not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
            raise _wrong(url, f"its path {parts.path!r} is to be of letters, digits and . _ ~ - between slashes")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        named = "" if port in (None, _DEFAULT[parts.scheme]) else f":{port}"
        return cls(parts.scheme, host + named, prefix)

    @property
    def origin(self) -> str:
        """What browsers say of where a request comes from."""
        return f"{self.scheme}://{self.host}"

    @property
    def root(self) -> str:
        """The address without a slash at its end."""
        return self.origin + self.prefix

    def inside(self, path: str) -> str:
        """Return a path as the server knows it, whether or not the proxy takes the prefix away."""
        if self.prefix and (path + "/").startswith(self.prefix + "/"):
            return path[len(self.prefix) :]
        return path


def _wrong(url: str, why: str) -> ManifestError:
    return ManifestError(f"--public-url {url!r} cannot be served: {why}; write it as https://host/prefix")
