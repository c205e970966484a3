"""The note that a failed stage leaves beside its artifact, for those who look later."""

import json
import time
from dataclasses import asdict, dataclass

from infra.storage import Store
from stages.aside import store_aside
from stages.ref import Ref

MOST_LETTERS = 4000


@dataclass(frozen=True)
class Failure:
    """Why the last attempt at an artifact ended without it."""

    message: str
    flow_run_id: str
    at: float
    """Seconds since 1970."""


def note_failure(store: Store, ref: Ref, error: Exception, flow_run_id: str = "") -> None:
    """Leave a note; a store that takes none is said in the log and changes nothing."""
    message = str(error)
    if len(message) > MOST_LETTERS:
        message = f"{message[: MOST_LETTERS // 2]}\n...\n{message[-MOST_LETTERS // 2 :]}"
    store_aside(store, _key(ref), json.dumps(asdict(Failure(message, flow_run_id, time.time()))).encode())


def failure_of(store: Store, ref: Ref) -> Failure | None:
    """Return the note of the last failure, None where there is none or a later attempt has begun."""
    try:
        return Failure(**json.loads(store.read(_key(ref))))
    except FileNotFoundError:
        return None


def forget_failure(store: Store, ref: Ref) -> None:
    """Remove the note: another attempt begins, and what it does is what counts."""
    store.remove(_key(ref))


def _key(ref: Ref) -> str:
    return ref.key("failure.json")
