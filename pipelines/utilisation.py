"""Which share of a card's data sheet a training reaches: measured where anything was measured, and it says where."""

import json
from dataclasses import dataclass
from pathlib import Path

from infra.storage import Store
from pipelines.clusters import CARDS
from pipelines.training_price import UTILISATION
from stages.manifest import find
from stages.materialize import StageSpec
from stages.training.meters import meters_key
from stages.workspace import Placement

MEASURED = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.json"
"""Of a checkout; an installed package has none."""
BENCHMARKED = {"contrastive": "S1-true", "generative": "S2-true", "align": "S3-2B", "instruct": "S3-2B"}


@dataclass(frozen=True)
class Utilisation:
    """A share, and how it is known."""

    share: float
    source: str


def utilisation(stage: str, spec: StageSpec, store: Store) -> Utilisation:
    """Return the share of a finished run, of the GPU benchmark, or our assumption; in this order."""
    key = meters_key(spec.artifact)
    if find(store, spec.artifact) is not None and store.exists(key):
        lines = [json.loads(line) for line in store.read(key).splitlines()]
        shares = sorted(line["mfu"] for line in lines if line.get("mfu"))
        if shares:
            return Utilisation(shares[len(shares) // 2], f"median of {spec.artifact}'s own meters")
    placement = Placement(**spec.placement)
    way = "recomputed" if placement.activation_checkpointing else "kept"
    way += ", compiled" if placement.compile else ""
    if stage in BENCHMARKED and MEASURED.exists():
        told = json.loads(MEASURED.read_text())
        found = told["stages"].get(BENCHMARKED[stage], {}).get(way)
        card = next((name for name in CARDS if name in told["device"]), None)
        if found and card:
            share = found["useful_tflops"] / CARDS[card].tflops
            return Utilisation(share, f"{BENCHMARKED[stage]}, {way}, measured on an {card}")
    return Utilisation(UTILISATION, "assumed")
