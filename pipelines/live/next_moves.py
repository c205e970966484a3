"""What a stage that does not stand comes to, in words, and what a person can do about it."""

from pipelines.live.shelf import Begun
from pipelines.live.states import QUIET_SECONDS, Doing
from stages.pace import duration


def words_of(begun: Begun, doing: Doing, now: float) -> str:
    """Return how far it is; rate and remaining time only while it runs and tells of itself."""
    if begun.pace is None:
        return "nothing told yet"
    works = doing in (Doing.RUNNING, Doing.WAITING) and not _quiet(begun, now)
    return begun.pace.words() if works else begun.pace.done_words()


def _quiet(begun: Begun, now: float) -> bool:
    """Say whether a stage has told nothing for so long that it may hang."""
    return begun.pace is not None and bool(begun.pace.at) and now - begun.pace.at >= QUIET_SECONDS


def heard_of(begun: Begun, now: float) -> str:
    """Return how long ago a stage told of itself, empty where it never did."""
    return duration(max(0.0, now - begun.pace.at)) if begun.pace and begun.pace.at else ""


def next_move(begun: Begun, doing: Doing, now: float) -> str:
    """Return what to do about a stage that failed, stopped, or seems to hang; empty for one that works."""
    if doing in (Doing.RUNNING, Doing.WAITING):
        if not _quiet(begun, now):
            return ""
        # Its lease is renewed all the same: a process that lives is never ended for being slow.
        return (
            f"its job lives and has told nothing for {heard_of(begun, now)}; if it hangs (the Ray dashboard has its "
            "log), cancel its run and start it again: finished parts are kept."
        )
    kept = f"{begun.made_parts:,} finished parts are kept: " if begun.made_parts else ""
    first = "put right what the message says, then " if doing is Doing.FAILED else ""
    return f"{kept}{first}run the same command or start the flow again; it goes on."
