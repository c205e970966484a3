"""A forecast beside the run that it was of, and both held against each other when the run is over.

What a step takes depends on clocks and machines: it is no part of a result, and lies beside it, as meters do.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from infra.storage import Store
from stages.errors import ManifestError
from stages.manifest import digest_of, find
from stages.ref import Ref


def meters_key(ref: Ref) -> str:
    """Return where a checkpoint's meters lie."""
    return ref.key("training/meters.jsonl")


def forecast_key(ref: Ref) -> str:
    """Return where the forecast of a checkpoint lies."""
    return ref.key("training/forecast.json")


@dataclass(frozen=True)
class Compared:
    """One quantity, as it was forecast and as it came."""

    what: str
    forecast: float
    fact: float

    @property
    def ratio(self) -> float:
        """Return forecast over fact."""
        return self.forecast / self.fact

    def as_json(self) -> dict[str, str | float]:
        """Return it as plain values, the ratio with it."""
        return {**asdict(self), "ratio": self.ratio}


def same(identity: Mapping[str, Any]) -> str:
    """Return the digest of what a run was asked for, its inputs aside: they may not stand when a forecast is made."""
    return digest_of({name: identity[name] for name in ("stage", "code", "parameters")})


def mismatch(ref: Ref, store: Store) -> str | None:
    """Return why the forecast of a run says nothing about it: it was of another training, or of other GPUs."""
    forecast, made = json.loads(store.read(forecast_key(ref))), find(store, ref)
    if made is not None and same(made.identity) != forecast["of"]:
        return f"the forecast of {ref} was made for other parameters than it was trained with"
    line = _lines(ref, store)[-1]
    ran, device = line["processes"], line.get("device", "")
    if ran != forecast["processes"] or (forecast["card"] or "") not in device:
        planned = f"{forecast['processes']} {forecast['card'] or 'CPU'} processes"
        return f"the forecast of {ref} is for {planned}, and it ran in {ran} on {device or 'an unnamed device'}"
    return None


def compare(ref: Ref, store: Store) -> list[Compared]:
    """Return what was forecast of a run beside what its meters say.

    FLOPs, padding among them, tell how much of a difference in time is none of speed: they are forecast for texts
    at their full length, unless a calibration looked at the data. On CPUs a step is held against the seconds that a
    process computed, as others may use the machine too; memory is compared on GPUs alone, as a process holds more
    than tensors.

    Raises:
        ManifestError: There is no forecast of it, nothing was measured, or the forecast was of something else.
    """
    if not store.exists(forecast_key(ref)):
        raise ManifestError(f"{ref} has no forecast; make one before it is trained: internvl plan RECIPE --keep")
    if not store.exists(meters_key(ref)):
        raise ManifestError(f"nothing measured {ref}: it was not trained yet, or for fewer steps than meters look at")
    if why := mismatch(ref, store):
        raise ManifestError(f"{why}; keep one for what will run, before it runs: internvl plan RECIPE --keep")
    forecast, lines = json.loads(store.read(forecast_key(ref))), _lines(ref, store)
    seconds = "seconds_per_step" if forecast["gpus"] else "cpu_seconds_per_step"
    rows = [("seconds of a step", forecast["step_seconds"], median(line.get(seconds, 0.0) for line in lines))]
    rows += [("FLOPs of a step", forecast["step_flops"], median(map(_flops, lines)))]
    if forecast["gpus"]:
        rows += [("peak memory, GB", _peak(forecast), max(line["peak_memory_bytes"] for line in lines) / 1e9)]
    return [Compared(what, before, after) for what, before, after in rows if before and after]


def held_against(ref: Ref, store: Store) -> dict[str, Any]:
    """Return the same for the facts of a finished run; nothing where it had no forecast or no meters."""
    if not (store.exists(forecast_key(ref)) and store.exists(meters_key(ref))):
        return {}
    if why := mismatch(ref, store):
        return {"forecast_not_compared": why}
    return {"forecast_against_fact": [each.as_json() for each in compare(ref, store)]}


def _lines(ref: Ref, store: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.read(meters_key(ref)).splitlines()]


def _flops(line: Mapping[str, Any]) -> float:
    """Return what all processes computed in a step, padding with it; 0 where the objective's FLOPs are not known."""
    useful = line.get("mfu", 0.0) * line.get("matmul_peak_flops", 0.0) * line["seconds_per_step"]
    return float(useful / line.get("useful_share", 1.0))


def _peak(forecast: Mapping[str, Any]) -> float:
    own = forecast["memory"][:1]  # the placement's own way comes first
    return float(own[0]["total"]) / 1e9 if own else 0.0
