"""Who may use Prefect: whoever knows this installation's password.

Who reaches Prefect starts flows in the name of whoever runs it, and a loopback address is open to everybody with an
account on the machine. So the server that `internvl up` starts asks for a `name:password`, which Prefect calls an
auth string: a random one, made once and kept beside Prefect's database. It travels in the environment of those
processes that talk to Prefect, and never on a command line, in a log or to a Ray job.
"""

import os
import secrets

from infra.kept_file import kept, read_kept
from infra.processes import Services
from infra.settings import Settings, quiet_environment
from pipelines.health import ask, basic

SHOWN = "PREFECT_API_AUTH_STRING"
"""What clients of Prefect show."""
ASKED = "PREFECT_SERVER_API_AUTH_STRING"
"""What its server asks for."""


def ours(here: Settings) -> bool:
    """Say whether the server is the one that `internvl up` starts."""
    return here.prefect_api_url == here.own_prefect_api_url


def password_of(here: Settings) -> str:
    """Return what to show to Prefect: what the environment gives, else what is kept for our own server; or nothing.

    Raises:
        StorageError: The file that holds it is empty.
    """
    return os.environ.get(SHOWN) or os.environ.get(ASKED) or _kept(here)


def _kept(here: Settings) -> str:
    path = here.prefect_password_path
    return read_kept(path) if ours(here) and path.exists() else ""


def make_password(here: Settings) -> None:
    """Choose the password of our own server, unless one stands or the environment gives one.

    Raises:
        StorageError: An empty one stands.
    """
    if ours(here) and not (os.environ.get(SHOWN) or os.environ.get(ASKED)):
        kept(here.prefect_password_path, lambda: f"internvl:{secrets.token_hex(16)}")


def client_variables(here: Settings) -> dict[str, str]:
    """Return the variables of a process that talks to Prefect."""
    shown = password_of(here)
    return quiet_environment(here) | ({SHOWN: shown} if shown else {})


def server_variables(here: Settings) -> dict[str, str]:
    """Return the variables of Prefect's server."""
    asked = os.environ.get(ASKED) or password_of(here)
    return client_variables(here) | ({ASKED: asked} if asked else {})


def join(here: Settings) -> None:
    """Make this process one that talks to Prefect; before Prefect is imported, which reads its settings then."""
    os.environ.update(client_variables(here))


def refusal(here: Settings) -> str:
    """Return why Prefect does not let us in, empty where it does or does not answer."""
    if ask(f"{here.prefect_api_url}/admin/version", basic(password_of(here))).status != 401:
        return ""
    if not ours(here):
        return f"Prefect at {here.prefect_ui_url} asks for another password: set {SHOWN} to its name:password"
    if not Services(here.home).find("prefect"):
        return (
            f"Prefect at {here.prefect_ui_url} belongs to another installation on this machine, this one's does not "
            "run; start it: internvl up, which names ports that are free where its own are taken"
        )
    # A process that joined has what is kept in its environment, where nobody put it.
    given = next((name for name in (SHOWN, ASKED) if os.environ.get(name, "") not in ("", _kept(here))), "")
    way = f"unset {given}, or set it" if given else f"set {SHOWN}"
    return (
        f"Prefect at {here.prefect_ui_url} was started with another password than ours: {way} to that one, or start "
        "it again with ours: internvl down, then internvl up"
    )
