"""Each real stage on a GPU: near what a CPU computes, and killed and resumed to the bit."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_runs import Forks
from real_stages import BATCH, STAGES, Ended, ended

STEPS = 9
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]


def run(
    forks: Forks, world: Path, stage: str, version: str, *, precision: str = "fp32", cpu: bool = False, **given: Any
) -> list[int]:
    """Run a stage to its end or to where it is killed; return the exit code."""
    killed = given.pop("killed", None)
    return forks.run(
        world, job="real_stages:train_stage", stage=stage, version=version,
        given={"schedule": {"steps": STEPS, "precision": precision}}, killed=killed,
        environment={"CUDA_VISIBLE_DEVICES": ""} if cpu else {},
        placed={"micro_batch_size": BATCH // 2, **given},
    )  # fmt: skip


def whole(forks: Forks, world: Path, stage: str, version: str, **given: Any) -> Ended:
    """Run a stage to its end and return what it left behind."""
    assert run(forks, world, stage, version, **given) == [0], forks.said()
    return ended(world, stage, version)


@pytest.mark.parametrize("stage", list(STAGES))
def test_it_computes_what_a_cpu_computes(forks: Forks, world: Path, stage: str) -> None:
    theirs = whole(forks, world, stage, "cpu", cpu=True)
    mine = whole(forks, world, stage, "cuda")
    assert [row["rows_digest"] for row in mine.history] == [row["rows_digest"] for row in theirs.history]
    assert mine.curve == pytest.approx(theirs.curve, rel=1e-4)
    half = whole(forks, world, stage, "half", precision="bf16")
    assert half.curve == pytest.approx(theirs.curve, rel=5e-2)
    assert half.curve != pytest.approx(theirs.curve, rel=1e-5), "half precision was half precision"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", list(STAGES))
def test_killed_and_run_again_it_ends_bit_for_bit_as_undisturbed(
    forks: Forks, world: Path, stage: str, precision: str
) -> None:
    ways: dict[str, Any] = {"precision": precision, "deterministic": True}
    expected = whole(forks, world, stage, f"whole-{precision}", **ways)
    step = random.Random(f"{stage}/{precision}").randrange(4, STEPS)
    killed = {"step": step, "rank": 0}
    assert run(forks, world, stage, f"killed-{precision}", killed=killed, **ways) == [-9], forks.said()
    found = whole(forks, world, stage, f"killed-{precision}", **ways)
    assert found.files == expected.files, "sha256 of weights, history and all else"


@pytest.mark.parametrize("stage", ["contrastive", "generative"])
def test_compiled_layers_compute_the_same(forks: Forks, world: Path, stage: str) -> None:
    plain = whole(forks, world, stage, "plain", precision="bf16")
    compiled = whole(forks, world, stage, "compiled", precision="bf16", compile=True)
    assert compiled.curve == pytest.approx(plain.curve, rel=2e-2)


def test_more_processes_than_gpus_are_refused(forks: Forks, world: Path) -> None:
    environment = {"LOCAL_WORLD_SIZE": str(torch.cuda.device_count() + 1)}
    codes = forks.run(
        world, job="real_stages:train_stage", stage="language", version="crowd",
        given={"schedule": {"steps": 1}}, placed={}, environment=environment,
    )  # fmt: skip
    assert codes == [1]
    assert "hide the GPUs" in forks.said()
