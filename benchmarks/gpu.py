"""On one GPU: parity in bfloat16, attention kernels, training steps of the true widths, and a resumed run.

`make gpu`. It needs torch, safetensors, numpy, pydantic and jaxtyping only, so that it runs on a borrowed
machine where nothing else is installed. `--dry` runs everything with tiny sizes on a CPU: its numbers mean nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.gpu_checks import kernels, matmul_peak, parity
from benchmarks.gpu_models import STAGES, Stage
from benchmarks.timing import publish, surroundings
from pipelines.plan_memory import fit
from stages.calibration import calibrate
from stages.placement import Placement
from stages.training.schedule import Schedule
from stages.training.trial import Trial, forget

RESULTS = Path(__file__).parent / "results" / "gpu.json"
WAYS = {
    "recomputed": (True, False),
    "recomputed, compiled": (True, True),
    "kept": (False, False),
    "kept, compiled": (False, True),
}
"""Whether activations are computed again in the backward pass instead of kept, and whether layers are compiled."""
LAST_PLAIN = ("S3-2B", "recomputed")
"""What is measured last before anything is compiled."""
SCHEDULE = Schedule(global_batch_size=1, steps=1, learning_rate=1e-5, weight_decay=0.1, precision="bf16")
ROUNDS = 3


def placement_of(way: str) -> Placement:
    """Return where one process computes in this way."""
    recompute, compiled = WAYS[way]
    return Placement(activation_checkpointing=recompute, compile=compiled)


def trained(stage: Stage, way: str, device: torch.device, peak: float, *, dry: bool) -> dict[str, Any]:
    """Return speed, share of the measured peak, and memory of one stage, in the largest micro batch that fits.

    Beside what came stands what was forecast: memory by `pipelines.plan_memory`, and the seconds of a step from those
    of a few layers (`stages.calibration`), except where layers are compiled.
    """
    shape, rows, pieces = (stage.tiny, 4, 2) if dry else (stage.shape, stage.rows, stage.pieces)
    rows = 1 if shape.packed else rows
    placement, trial = placement_of(way), None
    while True:
        trial = None  # a former try's model would lie beside this one's
        forget(device)
        try:
            trial = Trial(shape, rows, pieces, device=device, schedule=SCHEDULE, placement=placement)
            took, held = trial.take(1 if dry else ROUNDS), trial.held()
            break
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
            rows, pieces = rows // 2, pieces * 2
    seconds, flops, samples = sum(took), trial.flops(), stage.samples(shape, rows) * pieces
    parameters, learned = trial.parameters, trial.trained
    del trial
    fitted = fit(
        shape, parameters, learned, replace(placement, micro_batch_size=rows),
        global_batch=samples, precision="bf16", sharding="ddp", room=0,
    )  # fmt: skip
    found = {
        "sizes": shape.sizes(),
        "rows": rows,
        "micro_batches": pieces,
        "parameters": parameters,
        "trained": learned,
        "samples_per_second": samples / seconds,
        "useful_tflops": flops / seconds / 1e12,
        "mfu_of_measured_matmul": flops / seconds / peak,
        "seconds": {"gradients": took.gradients, "update": took.update},
        "peak_memory_gib": held and held.peak / 2**30,
        "held": held and asdict(held),
        "forecast": fitted.memory.as_json(),
    }
    if placement.compile:
        return found
    tried = calibrate(
        shape, rows, pieces, schedule=SCHEDULE, placement=placement, device=device, rounds=1 if dry else ROUNDS
    )
    return {
        **found,
        "calibration": tried.calibration.model_dump(),
        "forecast_seconds": tried.calibration.seconds(flops, learned),
    }


def resumed(stage: Stage, device: torch.device, *, dry: bool) -> dict[str, Any]:
    """Return whether two more steps after a restore equal those of the run that went on, bit by bit."""
    shape, rows = (stage.tiny, 4) if dry else (stage.shape.cut(2), 32)

    def trial() -> Trial:
        forget(device)
        return Trial(shape, rows, 2, device=device, schedule=SCHEDULE, placement=placement_of("recomputed"))

    def step(of: Trial) -> float:
        loss = of.gradients()
        of.update()
        return loss

    first = trial()
    before = [step(first), step(first)]
    weights = save({name: value.contiguous() for name, value in first.module.state_dict().items()})
    moments = {
        f"{index}.{name}": value.clone()
        for index, state in first.optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    onward = [step(first), step(first)]
    again = trial()
    again.module.load_state_dict(load(weights))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in load(save(moments)).items():
        index, _, kind = name.partition(".")
        state.setdefault(int(index), {})[kind] = value
    groups = again.optimizer.state_dict()["param_groups"]
    again.optimizer.load_state_dict({"state": state, "param_groups": groups})
    replayed = [step(again), step(again)]
    return {"before": before, "onward": onward, "replayed": replayed, "bitwise": onward == replayed}


def measure(device: torch.device, *, dry: bool) -> Iterator[dict[str, Any]]:
    """Yield everything that is measured, part by part: what was found stands if a later part fails or has no time.

    What is compiled comes last, as compiling takes longest, most of all of QLLaMA, which is called in many ways.
    """
    peak = matmul_peak(device, 128 if dry else 8192)
    yield {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu (dry run: speeds mean nothing)",
        "matmul_tflops": peak / 1e12,
        "surroundings": surroundings(("torch", "safetensors", "numpy", "pydantic")),
    }
    stages: dict[str, dict[str, Any]] = {name: {} for name in STAGES}
    every = [(name, way) for name, stage in STAGES.items() for way in stage.ways]
    for name, way in sorted(every, key=lambda each: (WAYS[each[1]][1], WAYS[each[1]][1] and each[0] == "S2-true")):
        stages[name][way] = trained(STAGES[name], way, device, peak, dry=dry)
        yield {"stages": stages}
        if (name, way) == LAST_PLAIN:
            yield {"resume": resumed(STAGES["S1-true"], device, dry=dry)}
            yield {"parity": parity(device)}
            yield {"attention": kernels(device, dry=dry)}


def main(arguments: list[str] | None = None) -> int:
    """Measure and publish.

    Returns:
        0; 1 where a resumed run differs from one that went on; 2 where there is no GPU.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU, to see that the script works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument(
        "--seconds", type=float, default=270, help="no part begins after so many; what is left is told"
    )
    given = parser.parse_args(arguments)
    if not given.dry and not torch.cuda.is_available():
        print(
            "no CUDA device here; run this on a machine with a GPU, or with --dry to see that it works",
            file=sys.stderr,
        )
        return 2
    found: dict[str, Any] = {}
    started = time.monotonic()
    for part in measure(torch.device("cpu" if given.dry else "cuda"), dry=given.dry):
        found |= part
        given.out.write_text(json.dumps(found, indent=1) + "\n")
        spent = time.monotonic() - started
        print(f"{spent:.0f} s: measured", *part, file=sys.stderr, flush=True)
        if spent > given.seconds:
            print(f"stopped: {spent:.0f} s are more than --seconds {given.seconds:.0f}", file=sys.stderr)
            break
    publish(found, "\n".join([found["device"], *_lines(found)]), given.out)
    return 0 if found.get("resume", {"bitwise": True})["bitwise"] else 1


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for name, ways in found["stages"].items():
        for way, stage in ways.items():
            line = f"{name}, activations {way}: {stage['mfu_of_measured_matmul']:.1%} of matmul"
            if stage["peak_memory_gib"]:
                line += (
                    f"; memory forecast / fact {stage['forecast']['total'] / 2**30 / stage['peak_memory_gib']:.3f}"
                )
            if "forecast_seconds" in stage:
                line += f"; step forecast / fact {stage['forecast_seconds'] / sum(stage['seconds'].values()):.3f}"
            yield line
    if "resume" in found:
        yield f"resumed bitwise: {found['resume']['bitwise']}"


if __name__ == "__main__":
    sys.exit(main())
