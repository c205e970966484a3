"""`internvl plan --calibrate`: a few real steps of each training on this machine, kept for later plans."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infra.storage import Store
from pipelines.clusters import CARDS, Gpus
from pipelines.graph import Step
from pipelines.plan_shapes import shapes_of
from pipelines.training_price import training_prices
from stages.calibration import Tried, calibrate, keep, pieces_of
from stages.manifest import ManifestError
from stages.training.peak import device_name
from stages.training.schedule import Schedule
from stages.workspace import Placement


@dataclass(frozen=True)
class Calibrated:
    """What was tried, and what could not be."""

    tried: dict[str, Tried]
    left_out: dict[str, str]
    """Stages, and why."""


def gpus_here() -> Gpus | None:
    """Return this machine's GPUs where they are of a kind whose data sheet is known."""
    if not torch.cuda.is_available():
        return None
    name = device_name(torch.device("cuda"))
    card = next((card for known, card in CARDS.items() if known in name), None)
    return Gpus(torch.cuda.device_count(), card) if card else None


def calibrate_all(steps: Sequence[Step], store: Store) -> Calibrated:
    """Try each training where its placement has it, GPU or CPU, and keep the rates.

    Raises:
        ManifestError: Not one could be tried here.
    """
    specs = {step.artifact.removeprefix("checkpoints/"): step.spec for step in steps}
    shapes, tried, left_out = shapes_of(specs), dict[str, Tried](), dict[str, str]()
    for each in training_prices(steps):
        if not each.samples:
            continue
        spec = specs[each.stage]
        placement = Placement(**spec.placement)
        if placement.gpus_per_worker and not torch.cuda.is_available():
            left_out[each.stage] = "its placement asks for a GPU, and this machine has none"
            continue
        schedule, shape = Schedule.model_validate(spec.parameters["schedule"]), shapes[each.stage]
        rows, pieces = pieces_of(shape, placement, schedule.global_batch_size)
        device = torch.device("cuda" if placement.gpus_per_worker else "cpu")
        found = calibrate(shape, rows, pieces, schedule=schedule, placement=placement, device=device)
        keep(store, found.calibration)
        tried[each.stage] = found
    if not tried:
        why = "; ".join(f"{stage}: {reason}" for stage, reason in left_out.items()) or "nothing of it is trained"
        raise ManifestError(
            f"nothing can be calibrated on this machine ({why}); run --calibrate where it would train"
        )
    return Calibrated(tried, left_out)


def lines(found: Calibrated) -> list[str]:
    """Return what was measured, and what was not, for people."""
    said = [
        f"{stage}: {each.calibration.flops_per_second / 1e9:,.1f} GFLOP/s useful, {measured(each)}"
        for stage, each in found.tried.items()
    ]
    return [*said, *(f"{stage}: not calibrated, {why}" for stage, why in found.left_out.items())]


def measured(each: Tried) -> str:
    """Return by what a stage was tried."""
    told = each.calibration
    return (
        f"{told.source} by steps of {told.layers} layers, {told.rows} rows at once ({told.way}), "
        f"{each.gradient_seconds + each.update_seconds:.3g} s each"
    )
