"""A bar in the terminal for one stage that runs in this process or on a cluster: it follows the stage's own notes."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.storage import Store
from pipelines.terminal import console
from stages.pace import Pace
from stages.ref import Ref

LOOK_SECONDS = 0.5


class Bar:
    """One bar; it shows what it is told."""

    def __init__(self, progress: Progress, name: str) -> None:
        """Draw an empty one."""
        self._progress, self._task = progress, progress.add_task(name, total=None, note="")

    def __call__(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Show how far something is."""
        self.say(done, total, f"{done:g}/{total:g} {unit} {note}".rstrip())

    def say(self, done: float, total: float, words: str) -> None:
        """Show how far something is in words of one's own."""
        self._progress.update(self._task, completed=done, total=total or None, note=words)


@contextmanager
def bar(name: str) -> Iterator[Bar]:
    """Show a bar meanwhile; nothing where the output is no terminal."""
    shown = sys.stdout.isatty()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield Bar(progress, name)


@contextmanager
def followed(store: Store, artifact: Ref) -> Iterator[None]:
    """Show meanwhile what a stage writes about how far it is."""
    key, ended = artifact.key("progress.json"), threading.Event()
    with bar(str(artifact)) as told:

        def look() -> None:
            last = b""
            while not ended.wait(LOOK_SECONDS):
                try:
                    data = store.read(key)
                except FileNotFoundError:
                    continue
                if data != last:
                    last, pace = data, Pace.of(json.loads(data))
                    told.say(pace.done, pace.total, pace.words())

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
