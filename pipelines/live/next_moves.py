"""What a stage that does not stand comes to, in words, and what a person can do about it."""

from pipelines.live.shelf import Begun
from pipelines.live.states import Doing
from stages.pace import duration


def words_of(begun: Begun, doing: Doing) -> str:
    """Return how far it is; rate and remaining time only while it runs."""
    if begun.pace is None:
        return "nothing told yet"
    return begun.pace.words() if doing in (Doing.RUNNING, Doing.WAITING) else begun.pace.done_words()


def heard_of(begun: Begun, now: float) -> str:
    """Return how long ago a stage told of itself, empty where it never did."""
    return duration(max(0.0, now - begun.pace.at)) if begun.pace and begun.pace.at else ""


def next_move(begun: Begun, doing: Doing) -> str:
    """Return what to do about a stage that failed or stopped; empty for one that runs."""
    if doing in (Doing.RUNNING, Doing.WAITING):
        return ""
    kept = f"{begun.made_parts:,} finished parts are kept: " if begun.made_parts else ""
    first = "put right what the message says, then " if doing is Doing.FAILED else ""
    return f"{kept}{first}run the same command or start the flow again; it goes on."
