"""What a recipe's lists would cost to download, from pilots of them or from earlier downloads."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.graph import Step
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.recipes import NO_DATA, OwnData
from stages.download_price import Pace, Price, Whole, price
from stages.download_tally import tally
from stages.manifest import Manifest, digest_of, find
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.workspace import Output, Workspace

MOST_PARTS = 512  # of an earlier download as many parts are counted, drawn by hash: parts are alike


@dataclass(frozen=True)
class Unknown:
    """A source that cannot be priced, and why."""

    source: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"source": self.source, "unknown": self.reason}


def pilot_version(version: str, urls: int) -> str:
    """Return the version that a pilot of this size has: pilots of several sizes stand side by side."""
    return f"{version}-{urls}"


def pilot_steps(recipe: RecipeName, urls: int, version: str = "", own: OwnData = NO_DATA) -> list[Step]:
    """Return the steps that list each source, draw its pilot and download that.

    Sources whose pictures are on this machine already have no pilot.

    Raises:
        ValueError: No source of the recipe asks the web for anything.
    """
    steps = {step.artifact: step for step in steps_of(FlowName.DATA, recipe, version, own)}
    found: list[Step] = []
    for step in steps.values():
        if step.spec.stage != "download" or step.spec.parameters["images"]:
            continue
        source, listing = step.artifact.rpartition("/")[2], steps[f"listing/{step.artifact.rpartition('/')[2]}"]
        name = pilot_version(step.spec.artifact.version, urls)
        drawn = Ref(name=f"listing/pilot/{source}", version=name)
        draw = StageSpec(stage="pilot", artifact=drawn, parameters={"urls": urls}, inputs=(listing.spec.artifact,))
        # The planted truth is about all rows of a source; a part of them cannot be held against it.
        parameters = {**step.spec.parameters, "truth": None}
        fetch = step.spec.model_copy(
            update={
                "artifact": Ref(name=f"pilot/{source}", version=name),
                "parameters": parameters,
                "inputs": (drawn,),
            }
        )
        found += [listing, Step(f"draw pilot of {source}", draw), Step(f"download pilot of {source}", fetch)]
    if not found:
        raise ValueError(
            "all pictures of this recipe are on this machine already: there is nothing to ask the web for"
        )
    return found


def prices(
    steps: Sequence[Step],
    store: Store,
    workers: int = 0,
    host_rate: float | None = None,
    pilot: int = 0,
    ask: str = "",
) -> list[Price | Unknown]:
    """Return what each source of a recipe would cost.

    Args:
        steps: The data steps of the recipe.
        store: Where pilots and pools stand.
        workers: Tasks that fetch at the same time; as many as this machine has CPUs when 0.
        host_rate: Requests per second to one host; what the download was given when None.
        pilot: Size of the pilot to go by; the pool, or else the largest pilot, when 0.
        ask: The command that draws a pilot of these sources, told where nothing was downloaded yet.
    """
    found: list[Price | Unknown] = []
    for step in (each for each in steps if each.spec.stage == "download"):
        source, version = step.artifact.rpartition("/")[2], step.spec.artifact.version
        if step.spec.parameters["images"]:
            found.append(Unknown(source, "its pictures are on this machine already"))
            continue
        sample = _sample(store, source, version, pilot)
        if sample is None:
            found.append(Unknown(source, "nothing of it was downloaded yet" + (f": {ask}" if ask else "")))
            continue
        pool, whole = sample
        rate = host_rate if host_rate is not None else pool.identity["parameters"].get("per_host_per_second", 0.0)
        found.append(_price(store, source, pool, whole, workers or os.cpu_count() or 1, float(rate)))
    return found


def _sample(store: Store, source: str, version: str, pilot: int) -> tuple[Manifest, Whole] | None:
    """Return what was downloaded of a source, and the whole list that it stands for."""
    if not pilot and (pool := find(store, Ref(name=f"pool/{source}", version=version))):
        listing = find(store, Ref(name=f"listing/{source}", version=version))
        rows = pool.ledger.listed
        return pool, Whole(
            listing.ledger.listed if listing else rows, rows, int(pool.totals.get("distinct_urls", rows))
        )
    sizes = [pilot] if pilot else sorted(_sizes(store, source, version), reverse=True)
    for size in sizes:
        name = pilot_version(version, size)
        pool = find(store, Ref(name=f"pilot/{source}", version=name))
        drawn = find(store, Ref(name=f"listing/pilot/{source}", version=name))
        if pool and drawn:
            return pool, Whole(**drawn.totals["whole"])
    return None


def _sizes(store: Store, source: str, version: str) -> list[int]:
    tails = [name.removeprefix(f"{version}-") for name in store.folders(f"pilot/{source}") if name != version]
    return [int(tail) for tail in tails if tail.isdecimal()]


def _price(store: Store, source: str, pool: Manifest, whole: Whole, workers: int, host_rate: float) -> Price:
    parts = sorted(pool.parts, key=lambda part: digest_of(["price", part.key]))[:MOST_PARTS]
    output = Output(store=store, ref=pool.ref, stage=pool.stage, identity=pool.identity)
    with tempfile.TemporaryDirectory(prefix="internvl-plan-") as scratch:
        sample = tally(parts, output, Workspace(store, InlineCluster(), Path(scratch)))
    return price(source, whole, sample, pace_of(store, pool), workers, host_rate)


def pace_of(store: Store, pool: Manifest) -> Pace:
    """Return how long a download took, as it was measured beside it; unknown where nobody did."""
    key = pool.ref.key("measures/watch.json")
    seen = json.loads(store.read(key))["seen"] if store.exists(key) else {}
    if not seen.get("urls"):
        return Pace()
    return Pace(seen["cpu_seconds"], seen["work_seconds"], seen["urls"])
