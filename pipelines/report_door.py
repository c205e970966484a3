"""Who may read reports: whoever knows this installation's token.

Reports show captions and pictures of the data, and a loopback address is open to everybody who has an account on the
machine. A link with `?token=` sets a cookie and leads on to the same page without it, so the token stays in no
address bar; a program sends `Authorization: Bearer`. Links that are written down where others read them (Prefect's
artifacts) never carry it.
"""

import hmac
import os
from collections.abc import Mapping
from email.message import Message

from infra.kept_file import read_kept
from infra.settings import Settings
from infra.storage import StorageError

VARIABLE = "INTERNVL_REPORT_TOKEN"
LEAST_LETTERS = 16

Headers = Mapping[str, str] | Message
"""Of a request; their names in any case."""


def token_of(here: Settings) -> str:
    """Return the token of the report server: the environment's, else that of the state folder; empty for none.

    Raises:
        StorageError: The environment's is too short to protect anything, or the state folder's is empty.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        if len(given) < LEAST_LETTERS or not given.isascii() or not given.isalnum():
            raise StorageError(
                f"{VARIABLE} must be {LEAST_LETTERS} or more ASCII letters and digits; make one: openssl rand -hex 32"
            )
        return given
    path = here.report_token_path
    return read_kept(path) if path.exists() else ""


def link(here: Settings) -> str:
    """Return the address of the reports that lets a person in; for that person's terminal alone.

    A report server that is not ours has a token of its own, known where the environment names it.
    """
    outside = bool(os.environ.get("INTERNVL_REPORT_URL")) and not os.environ.get(VARIABLE)
    token = "" if outside else token_of(here)
    return f"{here.report_url}/?token={token}" if token else here.report_url


class Door:
    """Lets in those who show the token; everybody where there is none."""

    def __init__(self, token: str) -> None:
        """Keep the token; empty for an open door."""
        self._token = token

    @property
    def closed(self) -> bool:
        """Whether there is a token to ask for."""
        return bool(self._token)

    def knows(self, token: str) -> bool:
        """Say whether this is the token, in a time that does not tell how much of it is right."""
        return _same(token, self._token)

    def admits(self, headers: Headers, port: int) -> bool:
        """Say whether a request shows the token, as a cookie or as a bearer."""
        if not self.closed:
            return True
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        return any(_same(given, self._session(port)) for given in _cookies(headers.get("Cookie", ""), _name(port)))

    def cookie(self, port: int) -> str:
        """Return the cookie that lets a browser in until it is closed; no script and no other site can use it."""
        return f"{_name(port)}={self._session(port)}; Path=/; HttpOnly; SameSite=Lax"

    def _session(self, port: int) -> str:
        """Return what a cookie holds in place of the token: browsers show it to all servers of the machine.

        It opens this port alone, and the token, which a link and a program show, does not follow from it.
        """
        return hmac.new(self._token.encode(), f"{_name(port)} cookie".encode(), "sha256").hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def _cookies(header: str, name: str) -> list[str]:
    """Return the values of a name; the standard library's parser gives up at the first odd cookie of others."""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return [value.strip().strip('"') for key, _, value in pairs if key.strip() == name]


def _name(port: int) -> str:
    """Return the cookie's name: browsers keep one jar for all ports of a machine, so two installations need two."""
    return f"internvl_reports_{port}"
