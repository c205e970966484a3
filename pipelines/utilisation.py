"""How fast a device trains a stage: measured where anything was measured, and it says where."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from infra.storage import Store
from models.step_shape import Shape
from pipelines.clusters import CARDS, Card
from pipelines.training_price import UTILISATION
from stages.calibration import Calibration, kept, pieces_of, way_of, widths_of
from stages.forecasts import meters_key
from stages.manifest import find
from stages.materialize import StageSpec
from stages.training.peak import device_name
from stages.workspace import Placement

MEASURED = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.json"
"""Of a checkout; an installed package has none."""
ASSUMED = "assumed"
BENCHMARKED = {"contrastive": "S1-true", "generative": "S2-true", "align": "S3-2B", "instruct": "S3-2B"}


@dataclass(frozen=True)
class Utilisation:
    """Useful FLOPs per second of one device, and how they are known."""

    flops_per_second: float
    source: str
    share: float | None = None
    """Of the card's data sheet; None on CPUs."""
    update_seconds: float = 0.0
    """What the optimizer takes for one weight, where it was measured apart."""
    sample_flops: float | None = None
    """Of the recipe's own data on the mean, where they were looked at; else texts count at their full length."""

    @classmethod
    def of(cls, share: float, card: Card, source: str) -> "Utilisation":
        """Return that of a share of a card's peak."""
        return cls(share * card.tflops * 1e12, source, share)

    @classmethod
    def measured(cls, flops: float, card: Card | None, source: str, update_seconds: float = 0.0) -> "Utilisation":
        """Return that of a measured rate."""
        return cls(flops, source, flops / (card.tflops * 1e12) if card else None, update_seconds)


def calibrated(spec: StageSpec, shape: Shape, store: Store, card: Card | None) -> Calibration | None:
    """Return what was measured of a stage's widths and way of computing, on a card of this kind or on this CPU."""
    schedule, placement = spec.parameters["schedule"], Placement(**spec.placement)
    _, pieces = pieces_of(shape, placement, schedule["global_batch_size"])
    widths = widths_of(shape, way_of(placement, schedule["precision"], pieces))
    return kept(store, shape.stage, widths, card.name if card else device_name(torch.device("cpu")))


def utilisation(stage: str, spec: StageSpec, shape: Shape, card: Card | None, store: Store) -> Utilisation | None:
    """Return what a calibration measured, a finished run, the GPU benchmark, or our assumption; in this order.

    What was measured holds for the same kind of card alone: a faster one reaches less of its peak.

    Args:
        stage: Which.
        spec: Its parameters and placement.
        shape: What one process computes.
        card: On which kind of GPU; this machine's CPU when None, of which nothing is assumed.
        store: Where calibrations and earlier runs are.
    """
    tried = calibrated(spec, shape, store, card)
    if tried is not None:
        found = Utilisation.measured(tried.flops_per_second, card, tried.source, tried.update_seconds)
        if tried.sample_flops is None or tried.inputs != tuple(map(str, spec.inputs)):
            return found
        source = f"{tried.source}, texts as long as those of {', '.join(tried.inputs) or 'its world'}"
        return replace(found, source=source, sample_flops=tried.sample_flops)
    ran = _of_run(spec, store, card)
    if ran is not None or card is None:
        return ran
    source, told = ASSUMED, _benchmarked(stage, spec)
    if told is not None:
        flops, device, what = told
        if card.name in device:
            return Utilisation.measured(flops, card, f"{what}, measured on {device}")
        other = next((each for name, each in CARDS.items() if name in device), None)
        source += f" (on {device} {what} reached {flops / other.tflops / 1e12:.1%})" if other else ""
    return Utilisation.of(UTILISATION, card, source)


def _of_run(spec: StageSpec, store: Store, card: Card | None) -> Utilisation | None:
    """Return what one process of a finished run computed usefully, by the median of its looks."""
    key, device = meters_key(spec.artifact), card.name if card else device_name(torch.device("cpu"))
    if find(store, spec.artifact) is None or not store.exists(key):
        return None
    lines = [json.loads(line) for line in store.read(key).splitlines()]
    # What meters tell is a share of the products that its processes were measured to reach together.
    rates = [
        line["mfu"] * line["matmul_peak_flops"] / line["processes"]
        for line in lines
        if line.get("mfu") and device in line.get("device", "")
    ]
    if not rates:
        return None
    return Utilisation.measured(median(rates), card, f"median of {spec.artifact}'s own meters")


def _benchmarked(stage: str, spec: StageSpec) -> tuple[float, str, str] | None:
    """Return useful FLOPs per second of the benchmark of a stage's kind, on which device, and how it ran."""
    placement = Placement(**spec.placement)
    way = "recomputed" if placement.activation_checkpointing else "kept"
    way += ", compiled" if placement.compile else ""
    if stage not in BENCHMARKED or not MEASURED.exists():
        return None
    told = json.loads(MEASURED.read_text())
    found = told["stages"].get(BENCHMARKED[stage], {}).get(way)
    return (found["useful_tflops"] * 1e12, told["device"], f"{BENCHMARKED[stage]}, {way}") if found else None
