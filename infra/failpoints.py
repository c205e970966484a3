"""Places where a test makes a process die, fail or wait: the commit protocol is proven by breaking it.

`INTERNVL_FAILPOINT=name:action[:nth]` in the environment acts when this process passes the named
place for the nth time (the first, when left out). Unset, a failpoint costs one look at the environment.
"""

import os
import signal
import time
from collections import Counter

PART_FAILPOINTS = (
    "before_part",  # the work of a part is done (its pictures are fetched), nothing of it is written
    "before_temporary",
    "during_temporary",  # a part of the bytes is in the temporary file
    "after_temporary",  # all bytes are in the temporary file and flushed; no name shows them yet
    "before_file",
    "after_file",  # a part's file stands under its own name, and no marker counts it
    "before_marker",
    "after_marker",
    "before_manifest",
    "after_manifest",
)
STATE_FAILPOINTS = (
    "before_shard",  # a training state is copied to host memory, nothing of it is written
    "after_shard",  # what this process owns of the state is written
    "before_state",  # all processes have written, and nothing counts the files yet
    "after_state",  # the state counts; the pointer to the newest still shows the one before
    "during_removal",  # an old state does not count any more, and its files are still there
)
FAILPOINTS = PART_FAILPOINTS + STATE_FAILPOINTS
ACTIONS = ("kill", "raise", "exit", "sleep")
VARIABLE = "INTERNVL_FAILPOINT"
SLEEP_SECONDS = 600.0

_passed: Counter[str] = Counter()


class FailpointError(RuntimeError):
    """What the action `raise` raises."""


def failpoint(name: str) -> None:
    """Act here if the environment says so.

    Raises:
        ValueError: This place, or the one that the environment names, is not in the closed list.
        FailpointError: The environment says `raise`.
    """
    if name not in FAILPOINTS:
        raise ValueError(f"no failpoint {name!r}; they are {', '.join(FAILPOINTS)}")
    if not (wanted := os.environ.get(VARIABLE)):
        return
    place, action, nth = _parse(wanted)
    if place != name:
        return
    _passed[name] += 1
    if _passed[name] != nth:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exit":
        os._exit(1)
    elif action == "sleep":
        time.sleep(SLEEP_SECONDS)
    else:
        raise FailpointError(f"failpoint {name}, passed for the {nth}. time")


def _parse(wanted: str) -> tuple[str, str, int]:
    place, _, rest = wanted.partition(":")
    action, _, nth = rest.partition(":")
    nth = nth or "1"
    if place not in FAILPOINTS or action not in ACTIONS or not nth.isdecimal() or int(nth) < 1:
        raise ValueError(
            f"{VARIABLE}={wanted!r} is not name:action[:nth]; names are {', '.join(FAILPOINTS)}; "
            f"actions are {', '.join(ACTIONS)}"
        )
    return place, action, int(nth)
