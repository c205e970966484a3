"""Golden loss curves: what thirty steps of each stage measured, and how far from that a curve may lie.

After a change that is meant to move them, renew them with `make golden` and say why in the commit.

Curves are kept by version of PyTorch and by the instructions that its kernels use (`ATEN_CPU_CAPABILITY`).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from real_stages import STAGES, ended, make_world, train_stage

GOLDEN = Path(__file__).parents[2] / "golden" / "loss_curves.json"
STEPS = 30
MEASURES = ("loss", "grad_norm")
CAPABILITIES = ("default", "avx2", "avx512")

Curves = dict[str, dict[str, list[float]]]
"""By stage and measure, one number per step."""
Golden = dict[str, dict[str, Curves]]
"""By version of PyTorch and instructions."""


def this_machine() -> tuple[str, str]:
    """Return the keys that this process's curves have."""
    return torch.__version__.partition("+")[0], torch.backends.cpu.get_cpu_capability()


def curves_of(history: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what a curve is of a run's history."""
    return {name: [step[name] for step in history] for name in MEASURES}


def distance(mine: dict[str, list[float]], golden: dict[str, list[float]], steps: int = STEPS) -> float:
    """Return the largest relative distance of two curves of one stage over the first steps.

    A loss near nought would make rounding look large: what is compared is at least a tenth of the first value.
    """
    return max(
        abs(one - other) / max(abs(other), 0.1 * abs(golden[name][0]))
        for name in MEASURES
        for one, other in zip(mine[name][:steps], golden[name][:steps], strict=True)
    )


def nearest(mine: dict[str, list[float]], stage: str, golden: Golden) -> float:
    """Return the distance to the curve of the same PyTorch that lies nearest; infinite where there is none.

    Raises:
        KeyError: No curve was recorded with this PyTorch; look at the new ones and renew them.
    """
    version, _ = this_machine()
    return min(distance(mine, each[stage]) for each in golden[version].values())


def measured(root: Path) -> Curves:
    """Run all stages in this process."""
    make_world(root)
    found = {}
    for stage in STAGES:
        train_stage(root, stage, "golden", {"schedule": {"steps": STEPS}}, {"checkpoint_steps": 100})
        found[stage] = curves_of(ended(root, stage, "golden").history)
    return found


def renew() -> None:
    """Keep curves of this PyTorch alone, one set for each kind of instructions."""
    version, capability = this_machine()
    with tempfile.TemporaryDirectory() as folder:
        mine = measured(Path(folder))
    golden: Golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    GOLDEN.write_text(json.dumps({version: {**golden.get(version, {}), capability: mine}}) + "\n")


if __name__ == "__main__":
    if "ATEN_CPU_CAPABILITY" in os.environ:
        renew()
    else:
        for each in CAPABILITIES:
            subprocess.run([sys.executable, __file__], check=True, env={**os.environ, "ATEN_CPU_CAPABILITY": each})
