"""Where a run's numbers are shown while it runs: TensorBoard by default, Weights & Biases where it is configured.

TensorBoard's event files lie on the machine of the first process, under `INTERNVL_HOME/tensorboard/<ref>`, and
need no server to be written. Nothing is sent anywhere unless `WANDB_PROJECT` is set; with `WANDB_MODE=offline`
Weights & Biases too writes files alone. A run never fails, and never stops, because of either.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.settings import settings
from stages.ref import Ref

log = logging.getLogger(__name__)


class Sinks:
    """Tells numbers by step to whatever is there; opened with the first of them."""

    def __init__(self, ref: Ref, *, first: bool, home: Path | None = None) -> None:
        """Open nothing yet.

        Args:
            ref: The checkpoint that is trained.
            first: Whether this process speaks for all; others tell nothing.
            home: Under which event files lie; the setting's where left out.
        """
        self._ref, self._first, self._home = ref, first, home
        self._told: list[tuple[str, Any]] = []
        self._opened = False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the numbers of a step."""
        if not self._opened:
            self._opened = True
            self._open()
        self._each(lambda sink: sink.tell(step, values))

    def flush(self) -> None:
        """Let readers see what was told."""
        self._each(lambda sink: sink.flush())

    def close(self) -> None:
        """Tell no more."""
        self._each(lambda sink: sink.close())
        self._told = []

    def _open(self) -> None:
        if self._first:
            self._start("TensorBoard", lambda: _TensorBoard(self._home or settings().home, self._ref))
            if os.environ.get("WANDB_PROJECT"):
                self._start("Weights & Biases", lambda: _WandB(self._ref))

    def _start(self, what: str, make: Callable[[], Any]) -> None:
        with _tolerated(what):
            self._told.append((what, make()))

    def _each(self, work: Callable[[Any], None]) -> None:
        for what, sink in list(self._told):
            done = False
            with _tolerated(what):
                work(sink)
                done = True
            if not done:
                self._told.remove((what, sink))


class _TensorBoard:
    """Event files in a folder."""

    def __init__(self, home: Path, ref: Ref) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(home / "tensorboard" / ref.folder))  # type: ignore[no-untyped-call]

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run of the project that the environment names."""

    def __init__(self, ref: Ref) -> None:
        import wandb

        self._run: Any = wandb.init(name=str(ref), id=ref.folder.replace("/", "-"), resume="allow")

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Nothing: it sends by itself."""

    def close(self) -> None:
        self._run.finish()


@contextmanager
def _tolerated(what: str) -> Iterator[None]:
    """Go on where a third party fails, with a warning: showing numbers is never worth a run."""
    try:
        yield
    except Exception as error:  # they raise what they like
        log.warning("%s is not told any more: %s", what, error)
