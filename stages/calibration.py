"""How fast a device trains a stage of given widths, measured by a few steps, and where that is kept.

A layer's speed depends on its widths, its rows and the way in which it computes, not on how many more follow: so a
few layers are tried, and the rate that they reach holds for the whole model. `models/` counts what a step has to do.
"""

import re
import time

import torch
from pydantic import BaseModel, ConfigDict

from infra.storage import Store
from models.step_shape import Shape
from stages.manifest import digest_of
from stages.placement import Placement
from stages.training.peak import device_name
from stages.training.schedule import Schedule
from stages.training.trial import Held, Trial, forget

LAYERS = 8
"""Of each tower, at most: ours. With 4 of 24, what is in no layer made a chat step 23 % longer than it was on a GPU
(docs/reference/plan.md)."""
ROUNDS = 3
FOLDER = "calibrations"


class Calibration(BaseModel):
    """What was measured of one stage on one device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    device: str
    """As its driver calls a GPU, or the kernel a processor."""
    way: str
    widths: str
    """Digest of all that a rate depends on."""
    layers: int
    """Most of a tower that was tried."""
    rows: int
    pieces: int
    """Micro batches of a step."""
    flops_per_second: float
    """Useful FLOPs of forward and backward passes, of one device or one process on CPUs."""
    update_seconds: float
    """What clipping and the optimizer take for one weight that learns."""
    torch: str
    measured_at: str
    sample_flops: float | None = None
    """What a sample of its own data takes on the mean, padding among it; None where it was not looked at."""
    inputs: tuple[str, ...] = ()
    """These data."""

    @property
    def source(self) -> str:
        """Return how the rate is known, for people."""
        return f"measured on {self.device}, {self.measured_at[:10]}"

    def seconds(self, flops: float, trained: int) -> float:
        """Return what a step of one process takes.

        Args:
            flops: Useful ones of its share.
            trained: Weights that it updates.
        """
        return flops / self.flops_per_second + trained * self.update_seconds


class Tried(BaseModel):
    """A calibration, and what the step was seen to take and to hold."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    calibration: Calibration
    gradient_seconds: float
    update_seconds: float
    flops: float
    parameters: int
    trained: int
    held: Held | None


def way_of(placement: Placement, precision: str, pieces: int) -> str:
    """Return the way in which a step computes, for people and as part of what a rate depends on."""
    said = [precision, "recomputed" if placement.activation_checkpointing else "kept"]
    said += ["compiled"] if placement.compile else []
    return ", ".join([*said, "in pieces" if pieces > 1 else "at once"])


def widths_of(shape: Shape, way: str) -> str:
    """Return the digest of all sizes of a shape but its depth, and of the way in which it computes."""
    return digest_of({**shape.cut(1).sizes(), "way": way})


def pieces_of(shape: Shape, placement: Placement, global_batch: int) -> tuple[int, int]:
    """Return the rows that a process computes at once, and its micro batches of a step; see `Placement`."""
    share = max(1, global_batch // placement.workers)
    if shape.packed:
        return 1, max(1, -(-share * shape.length // shape.tokens))
    rows = min(share, placement.micro_batch_size or share)
    return rows, share // rows


def calibrate(
    shape: Shape,
    rows: int,
    pieces: int,
    *,
    schedule: Schedule,
    placement: Placement,
    device: torch.device,
    layers: int = LAYERS,
    rounds: int = ROUNDS,
) -> Tried:
    """Take a few steps and return what they took; a GPU that is too small tries fewer layers, then fewer rows.

    Args:
        shape: What is trained.
        rows: Computed at once.
        pieces: Micro batches of a step; two stand for any number.
        schedule: Its optimizer and precision.
        placement: Whether activations are computed again, and layers compiled.
        device: Where.
        layers: Most of a tower.
        rounds: Steps that are timed; one before them is not.

    Raises:
        OutOfMemoryError: One row of one layer does not fit onto the GPU.
    """
    several = min(pieces, 2)
    way = way_of(placement, schedule.precision, pieces)
    while True:
        trial = None  # a former try's model would lie beside this one's
        forget(device)
        cut = shape.cut(layers)
        try:
            trial = Trial(cut, rows, several, device=device, schedule=schedule, placement=placement)
            took, held = trial.take(rounds), trial.held()
            break
        except torch.OutOfMemoryError:
            if layers == 1 and rows == 1:
                raise
            layers, rows = (layers // 2, rows) if layers > 1 else (1, rows // 2)
    flops, trained = trial.flops(), trial.trained
    found = Calibration(
        stage=shape.stage,
        device=device_name(device),
        way=way,
        widths=widths_of(shape, way),
        layers=layers,
        rows=rows,
        pieces=several,
        flops_per_second=flops / took.gradients,
        update_seconds=took.update / max(1, trained),
        torch=torch.__version__,
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    parameters = trial.parameters
    return Tried(
        calibration=found,
        gradient_seconds=took.gradients,
        update_seconds=took.update,
        flops=flops,
        parameters=parameters,
        trained=trained,
        held=held,
    )


def keep(store: Store, found: Calibration) -> str:
    """Write a calibration in the place of an older one of the same; return its key."""
    key = _key(found.device, found.stage, found.widths)
    store.write(key, found.model_dump_json(indent=1).encode())
    return key


def kept(store: Store, stage: str, widths: str, device: str = "") -> Calibration | None:
    """Return what was measured last of a stage on devices whose name holds `device`; None where nothing was."""
    name = f"/{stage}-{widths[:16]}.json"
    keys = [key for key in store.keys(FOLDER) if key.endswith(name)]
    found = [Calibration.model_validate_json(store.read(key)) for key in keys]
    fitting = [each for each in found if device in each.device]
    return max(fitting, key=lambda each: each.measured_at, default=None)


def _key(device: str, stage: str, widths: str) -> str:
    folder = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-")
    return f"{FOLDER}/{folder}/{stage}-{widths[:16]}.json"
