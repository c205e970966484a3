"""Where a model lies decides nothing: one process, two, in shards, in micro batches, all the same numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from placed_runs import CASES, Plain, all_cases, alone, finished, spawn

ALL = "import sys; from pathlib import Path; from placed_runs import all_cases; all_cases(Path(sys.argv[1]))"
assert all_cases.__name__ in ALL


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases on two processes, once."""
    folder = tmp_path_factory.mktemp("two")
    finished(spawn(ALL, [folder]))
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Run the plain and the joint objective on one process, all rows at once."""
    folder = tmp_path_factory.mktemp("one")
    return {
        (kind, optimizer): alone(kind, folder, optimizer=optimizer)
        for kind in ("plain", "pairs")
        for optimizer in ("adamw", "stable_adamw")
    }


def same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine["rows"] == theirs["rows"]
    assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-6, abs=1e-6)
    assert mine["norms"] == pytest.approx(theirs["norms"], rel=1e-6, abs=1e-6)
    assert mine["weights"].keys() == theirs["weights"].keys()
    for name, weight in theirs["weights"].items():
        assert torch.allclose(mine["weights"][name], weight, rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize("optimizer", ["adamw", "stable_adamw"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_what_one_gives(together: Path, single: Any, case: str, optimizer: str) -> None:
    found = torch.load(together / f"{case}-{optimizer}.pt")
    same(found, single[CASES[case][0], optimizer])


@pytest.mark.parametrize("kind", ["plain", "pairs"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_decide_nothing_on_one_process(
    single: Any, tmp_path: Path, kind: str, micro_batch_size: int
) -> None:
    same(alone(kind, tmp_path, micro_batch_size), single[kind, "adamw"])


def test_shards_are_shards(together: Path, single: Any) -> None:
    """Accelerate's plugin gives plain data parallelism on CPUs without a word; this fails for that."""
    whole = single["plain", "adamw"]
    sharded, ddp = (torch.load(together / f"plain-{name}-None-adamw.pt") for name in ("fsdp2", "ddp"))
    assert {name for name, kind in sharded["kinds"].items() if kind != "DTensor"} == {"scale"}, "a scalar stays whole"
    assert "DTensor" not in ddp["kinds"].values()
    assert ddp["held"] == whole["held"]
    assert sharded["held"] <= whole["held"] / 2 + 5, "each holds half, and an uneven row"


def test_what_is_frozen_has_no_optimizer_state_and_does_not_move(together: Path, single: Any) -> None:
    learns = {name for name, parameter in Plain().named_parameters() if parameter.requires_grad}
    assert "tower.layers.1.weight" not in learns
    for sharding in ("ddp", "fsdp2"):
        found = torch.load(together / f"plain-{sharding}-2-stable_adamw.pt")
        assert set(found["states"]) == learns
        assert set(found["weights"]) == learns
