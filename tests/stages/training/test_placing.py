"""Where a model lies decides nothing: one process, two, in shards, in micro batches, all the same numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from forked_runs import Forks
from placed_runs import CASES, OBJECTIVES, SCHEDULE, TRICKY, Case, Plain, job_of

from infra.storage import Store
from stages.checkpoints import fetch
from stages.manifest import ManifestError, load
from stages.weight_files import open_weights
from stages.workspace import Placement

NO_GRADIENT = ("norm1_k.bias", "cross_attn.k_bias")
"""Added to every key, a bias changes no attention: its gradient is rounding, which Adam makes a step of full size."""


@pytest.fixture(scope="module")
def together(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases on two processes, once."""
    folder = tmp_path_factory.mktemp("two")
    assert forks.run(folder, 2, job="placed_runs:all_cases") == [0, 0], forks.said()
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, Any]]:
    """Run each objective on one process, all rows at once."""
    folder = tmp_path_factory.mktemp("one")
    return {case: case.run(folder) for case in {case.alone() for case in CASES}}


def same(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine["rows"] == theirs["rows"]
    assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-6, abs=1e-6)
    assert mine["norms"] == pytest.approx(theirs["norms"], rel=1e-6, abs=1e-6)
    assert mine["weights"].keys() == theirs["weights"].keys()
    far = {name: float((mine["weights"][name] - weight).abs().max()) for name, weight in theirs["weights"].items()}
    assert not {name: value for name, value in far.items() if value > 1e-6 and not name.endswith(NO_GRADIENT)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_give_what_one_gives(together: Path, single: Any, case: Case) -> None:
    same(torch.load(together / f"{case}.pt"), single[case.alone()])


@pytest.mark.parametrize("kind", ["plain", "pairs"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_decide_nothing_on_one_process(
    single: Any, tmp_path: Path, kind: str, micro_batch_size: int
) -> None:
    case = Case(kind, "ddp", micro_batch_size)
    same(case.run(tmp_path), single[case.alone()])


def test_shards_are_shards(together: Path, single: Any) -> None:
    """Accelerate's plugin gives plain data parallelism on CPUs without a word; this fails for that."""
    whole = single[Case("plain", "ddp", None)]
    sharded, ddp = (torch.load(together / f"plain-{name}-None-adamw.pt") for name in ("fsdp2", "ddp"))
    assert {name for name, kind in sharded["kinds"].items() if kind != "DTensor"} == {"scale"}, "a scalar stays whole"
    assert "DTensor" not in ddp["kinds"].values()
    assert ddp["held"] == whole["held"]
    assert sharded["held"] <= whole["held"] / 2 + 5, "each holds half, and an uneven row"


def test_what_is_frozen_has_no_optimizer_state_and_does_not_move(together: Path) -> None:
    learns = {name for name, parameter in Plain().named_parameters() if parameter.requires_grad}
    assert "tower.layers.1.weight" not in learns
    for sharding in ("ddp", "fsdp2"):
        found = torch.load(together / f"plain-{sharding}-2-adamw.pt")
        assert set(found["states"]) == learns
        assert set(found["weights"]) == learns


def test_a_run_in_shards_publishes_the_whole_model(together: Path, single: Any, tmp_path: Path) -> None:
    store = Store(str(together / "store"))
    files = fetch(store, load(store, job_of(together / "store", "plain", Placement()).output.ref), tmp_path)
    published = open_weights(files)
    for name, weight in single[Case("plain", "ddp", None)]["weights"].items():
        assert torch.allclose(published[name], weight, rtol=1e-6, atol=1e-6), name
    torch.manual_seed(SCHEDULE.seed)
    frozen = {name: value for name, value in Plain().named_parameters() if not value.requires_grad}
    assert frozen and all(torch.equal(published[name], value) for name, value in frozen.items()), "as it trained with"


def test_layers_computed_again_give_the_same(together: Path, single: Any) -> None:
    same(torch.load(together / "checkpointed.pt"), single[TRICKY.alone()])


def test_the_comparison_fails_where_a_scalar_is_not_averaged(together: Path, single: Any) -> None:
    with pytest.raises(AssertionError):
        same(torch.load(together / "not-averaged.pt"), single[TRICKY.alone()])


def test_compiled_layers_give_the_same(single: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_here(layer: torch.nn.Module) -> None:
        compiled.append(layer)
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend="eager")  # no C++ compiler needed

    monkeypatch.setattr(torch.nn.Module, "compile", compile_here)
    case = Case("plain", "ddp", None)
    same(case.run(tmp_path, compile=True), single[case])
    assert len(compiled) == len(Plain().tower.layers)


def test_a_model_without_layers_to_compute_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "bare", lambda: torch.nn.Linear(2, 2))
    with pytest.raises(ManifestError, match="leave activation_checkpointing out"):
        Case("bare", "ddp", None).run(tmp_path, activation_checkpointing=True)
