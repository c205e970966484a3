"""A small training of two processes, of which one dies or hangs."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from installation import wait_for
from placed_runs import Drawn, Parameters, job_of

from infra.cluster import InlineCluster
from stages.manifest import Manifest
from stages.run import exit_code
from stages.train_loop import train
from stages.training.task import Task
from stages.workspace import Placement, Workspace

SECONDS = 5.0
FAULT_STEP = 2


def attempt(root: Path, build: Callable[[Any, Workspace], Task]) -> Manifest:
    """Train to the end, with a short patience for others."""
    placement = Placement(checkpoint_steps=1, collective_timeout_seconds=SECONDS)
    job = job_of(root, "plain", placement)
    here = Workspace(job.output.store, InlineCluster(), root, placement=placement)
    return train(build, job.parameters, job.output, here)


def lose(root: Path, rank: int, how: str) -> int:
    """Train beside a process that dies, or that hangs until the other has left."""
    mine, over = int(os.environ["RANK"]), root / "over"
    # Starting takes longer on a busy machine than a step may take here.
    (root / str(mine)).touch()
    wait_for("both processes", lambda: (root / "0").exists() and (root / "1").exists())
    code = exit_code(partial(attempt, root, partial(_build_faulty, how if mine == rank else "", over)))
    over.touch()
    return code


def _build_faulty(how: str, over: Path, parameters: Parameters, here: Workspace) -> Drawn:
    task = Drawn(parameters)
    made = task.batches

    def batches(rows: Sequence[int], step: int) -> dict[str, Any]:
        if how and step == FAULT_STEP:
            while how == "sleeps" and not over.exists():
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        return made(rows, step)

    task.batches = batches  # type: ignore[method-assign]
    return task
