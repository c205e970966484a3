"""Which installation this is: a Ray cluster and a store may be shared with others, and their jobs are not ours."""

import secrets

from infra.kept_file import kept
from infra.settings import Settings


def installation(here: Settings) -> str:
    """Return the mark of this installation's jobs: `INTERNVL_INSTALLATION`, or a random one kept at home.

    Addresses do not tell installations apart: those of two may be the same. Processes of one installation that share
    no state folder must be given the name, or none of them takes the others' jobs for its own.

    Raises:
        StorageError: The file that holds it is empty.
    """
    return here.installation or kept(here.home / "installation", lambda: secrets.token_hex(8))
