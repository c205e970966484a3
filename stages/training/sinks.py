"""Where a run's numbers are shown while it runs: TensorBoard by default, Weights & Biases where it is configured.

TensorBoard's event files lie on the machine of the first process, under `INTERNVL_HOME/tensorboard/<ref>`, and
need no server to be written. Nothing is sent anywhere unless `WANDB_PROJECT` is set; with `WANDB_MODE=offline`
Weights & Biases too writes files alone. A run never fails, and never stops, because of either.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infra.settings import settings
from stages.ref import Ref

log = logging.getLogger(__name__)


class Sinks:
    """Tells numbers by step to whatever is there."""

    def __init__(self, ref: Ref, *, first: bool, home: Path | None = None) -> None:
        """Open what is configured.

        Args:
            ref: The checkpoint that is trained.
            first: Whether this process speaks for all; others tell nothing.
            home: Under which event files lie; the setting's where left out.
        """
        self._writer = self._run = None
        if first:
            folder = (home or settings().home) / "tensorboard" / ref.folder
            self._writer = _tried("TensorBoard", lambda: _tensorboard(folder))
            if os.environ.get("WANDB_PROJECT"):
                self._run = _tried("Weights & Biases", lambda: _wandb(ref))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the numbers of a step."""
        writer, run = self._writer, self._run
        if writer is not None:
            for name, value in values.items():
                if _tried("TensorBoard", lambda n=name, v=value: writer.add_scalar(n, v, step) or True) is None:
                    self._writer = None
                    break
        if run is not None and _tried("Weights & Biases", lambda: run.log(dict(values), step=step) or True) is None:
            self._run = None

    def flush(self) -> None:
        """Let readers see what was told."""
        if self._writer is not None:
            _tried("TensorBoard", self._writer.flush)

    def close(self) -> None:
        """Tell no more."""
        if self._writer is not None:
            _tried("TensorBoard", self._writer.close)
        if self._run is not None:
            _tried("Weights & Biases", self._run.finish)


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))  # type: ignore[no-untyped-call]


def _wandb(ref: Ref) -> Any:
    import wandb

    return wandb.init(name=str(ref), id=ref.folder.replace("/", "-"), resume="allow")


def _tried(what: str, work: Callable[[], Any]) -> Any:
    """Return what a work returns; None, with a warning, where it fails: showing numbers is never worth a run."""
    try:
        return work()
    except Exception as error:  # third parties raise what they like
        log.warning("%s is not told any more: %s", what, error)
        return None
