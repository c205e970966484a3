"""Who hears of it when a step moves: the terminal draws its bars from that."""

from collections.abc import Callable
from typing import Any

Watcher = Callable[[str, str, dict[str, Any]], None]
"""Called with (artifact, state, facts) as a step moves."""
_watchers: list[Watcher] = []


def watch(watcher: Watcher) -> None:
    """Hear of every step's progress in this process."""
    _watchers.append(watcher)


def tell(artifact: str, state: str, facts: dict[str, Any] | None = None) -> None:
    """Tell those who watch that a step moved."""
    for watcher in _watchers:
        watcher(artifact, state, facts or {})
