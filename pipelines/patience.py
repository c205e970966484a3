"""Waiting for a Prefect that is started again."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

PREFECT_PATIENCE_SECONDS = 240.0
"""How long a step waits for it."""

R = TypeVar("R")


def patiently(call: Callable[[], R]) -> R:
    """Call Prefect until it answers: its server may be started again while a step's job works on.

    Prefect's clients wait only where they have been connected before, and each artifact is told by a new one.

    Raises:
        httpx.TransportError: It stayed away for minutes.
    """
    stop = time.monotonic() + PREFECT_PATIENCE_SECONDS
    while True:
        try:
            return call()
        except httpx.TransportError:
            if time.monotonic() > stop:
                raise
            time.sleep(2)
