"""How fast a device trains a stage: measured where anything was measured, and it says where."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from infra.storage import Store
from models.step_shape import Shape
from pipelines.clusters import CARDS, Card
from pipelines.training_price import UTILISATION
from stages.calibration import Calibration, device_name, kept, pieces_of, way_of, widths_of
from stages.forecasts import meters_key
from stages.manifest import find
from stages.materialize import StageSpec
from stages.workspace import Placement

MEASURED = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.json"
"""Of a checkout; an installed package has none."""
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

    @classmethod
    def of(cls, share: float, card: Card, source: str) -> "Utilisation":
        """Return that of a share of a card's peak."""
        return cls(share * card.tflops * 1e12, source, share)


def calibrated(spec: StageSpec, shape: Shape, store: Store, card: Card | None) -> Calibration | None:
    """Return what was measured of a stage's widths and way of computing, on a card of this kind or on this CPU."""
    schedule, placement = spec.parameters["schedule"], Placement(**spec.placement)
    _, pieces = pieces_of(shape, placement, schedule["global_batch_size"])
    widths = widths_of(shape, way_of(placement, schedule["precision"], pieces))
    return kept(store, shape.stage, widths, card.name if card else device_name(torch.device("cpu")))


def utilisation(stage: str, spec: StageSpec, shape: Shape, card: Card | None, store: Store) -> Utilisation | None:
    """Return what a calibration measured, a finished run, the GPU benchmark, or our assumption; in this order.

    Args:
        stage: Which.
        spec: Its parameters and placement.
        shape: What one process computes.
        card: On which kind of GPU; this machine's CPU when None, of which nothing is assumed.
        store: Where calibrations and earlier runs are.
    """
    tried = calibrated(spec, shape, store, card)
    if tried is not None:
        share = tried.flops_per_second / (card.tflops * 1e12) if card else None
        return Utilisation(tried.flops_per_second, tried.source, share, tried.update_seconds)
    if card is None:
        return None
    key = meters_key(spec.artifact)
    if find(store, spec.artifact) is not None and store.exists(key):
        lines = [json.loads(line) for line in store.read(key).splitlines()]
        shares = sorted(line["mfu"] for line in lines if line.get("mfu"))
        if shares:
            return Utilisation.of(shares[len(shares) // 2], card, f"median of {spec.artifact}'s own meters")
    placement = Placement(**spec.placement)
    way = "recomputed" if placement.activation_checkpointing else "kept"
    way += ", compiled" if placement.compile else ""
    if stage in BENCHMARKED and MEASURED.exists():
        told = json.loads(MEASURED.read_text())
        found = told["stages"].get(BENCHMARKED[stage], {}).get(way)
        other = next((each for name, each in CARDS.items() if name in told["device"]), None)
        if found and other:
            share = found["useful_tflops"] / other.tflops
            return Utilisation.of(share, card, f"{BENCHMARKED[stage]}, {way}, measured on an {other.name}")
    return Utilisation.of(UTILISATION, card, "assumed")
