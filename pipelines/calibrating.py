"""`internvl plan --calibrate`: a few real steps of each training on this machine, kept for later plans."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infra.cluster import InlineCluster
from infra.scratch import scratch_folder
from infra.storage import Store
from pipelines.clusters import CARDS, Gpus
from pipelines.graph import Step
from pipelines.plan_shapes import shapes_of
from pipelines.training_price import training_prices
from stages.calibration import Calibration, Tried, calibrate, keep, pieces_of
from stages.manifest import ManifestError, find
from stages.materialize import StageSpec, module_of
from stages.training.foretaste import sample_flops
from stages.training.peak import device_name
from stages.training.schedule import Schedule
from stages.workspace import Placement, Workspace

SMALL = 500_000_000
"""Parameters up to which a model is built to look at its data: ours, what any machine holds."""


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
        if each.parameters <= SMALL:
            found = found.model_copy(update={"calibration": _with_data(found.calibration, spec, store)})
        keep(store, found.calibration)
        tried[each.stage] = found
    if not tried:
        why = "; ".join(f"{stage}: {reason}" for stage, reason in left_out.items()) or "nothing of it is trained"
        raise ManifestError(
            f"nothing can be calibrated on this machine ({why}); run --calibrate where it would train"
        )
    return Calibrated(tried, left_out)


def _with_data(found: Calibration, spec: StageSpec, store: Store) -> Calibration:
    """Return a calibration that knows what the stage's own data take, where these stand already."""
    inputs = {ref.name: find(store, ref) for ref in spec.inputs}
    if not all(inputs.values()):
        return found
    module = module_of(spec.stage)
    with scratch_folder("calibrate") as scratch:
        here = Workspace(
            store=store,
            cluster=InlineCluster(),
            scratch=scratch,
            inputs={name: manifest for name, manifest in inputs.items() if manifest is not None},
            placement=Placement(**spec.placement),
        )
        flops = sample_flops(module.build, module.Parameters.model_validate(spec.parameters), here)
    return found.model_copy(update={"sample_flops": flops, "inputs": tuple(map(str, spec.inputs))})


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
