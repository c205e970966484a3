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
from http.cookies import CookieError, SimpleCookie

from infra.settings import Settings
from infra.storage import StorageError

VARIABLE = "INTERNVL_REPORT_TOKEN"
LEAST_LETTERS = 16

Headers = Mapping[str, str] | Message
"""Of a request; their names in any case."""


def token_of(here: Settings) -> str:
    """Return the token of the report server: the environment's, else that of the state folder; empty for none.

    Raises:
        StorageError: The environment's is too short to protect anything.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        if len(given) < LEAST_LETTERS or not given.isascii() or not given.isalnum():
            raise StorageError(
                f"{VARIABLE} must be {LEAST_LETTERS} or more ASCII letters and digits; make one: openssl rand -hex 32"
            )
        return given
    path = here.report_token_path
    return path.read_text().strip() if path.exists() else ""


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
        return hmac.compare_digest(token.encode(errors="replace"), self._token.encode())

    def admits(self, headers: Headers, port: int) -> bool:
        """Say whether a request shows the token, as a cookie or as a bearer."""
        if not self.closed:
            return True
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("Cookie", "")).get(_name(port))
        except CookieError:
            return False
        return morsel is not None and self.knows(morsel.value)

    def cookie(self, port: int) -> str:
        """Return the cookie that lets a browser in until it is closed; no script and no other site can use it."""
        return f"{_name(port)}={self._token}; Path=/; HttpOnly; SameSite=Lax"


def _name(port: int) -> str:
    """Return the cookie's name: browsers keep one jar for all ports of a machine, so two installations need two."""
    return f"internvl_reports_{port}"
