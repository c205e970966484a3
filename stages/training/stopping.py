"""Asked to stop, a run finishes its step, saves and leaves: what SIGTERM and Slurm's SIGUSR1 ask for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(RuntimeError):
    """The run was asked to stop and has saved; the same command goes on from there (exit code 75)."""


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        """Start unasked."""
        self.signal = ""

    def __bool__(self) -> bool:
        """Say whether it was."""
        return bool(self.signal)

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Remember a signal; the step that runs is finished first."""
        self.signal = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for the signals that ask a run to stop; afterwards they act as before.

    Python hands signals to the main thread alone: a worker that Ray runs in another thread hears
    nothing here, and its preemption is a crash like any other.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
