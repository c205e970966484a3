"""How fast this machine trains a shape, kept by device and widths."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_towers import GENERATIVE

from infra.storage import Store
from models.step_shape import Shape
from stages import calibration
from stages.calibration import Calibration, calibrate, keep, kept, pieces_of, way_of, widths_of
from stages.placement import Placement
from stages.training.peak import device_name
from stages.training.schedule import Schedule
from stages.training.trial import Trial

CPU = torch.device("cpu")
SCHEDULE = Schedule(global_batch_size=1, steps=1, learning_rate=1e-2)


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    tried = calibrate(GENERATIVE, 4, 6, schedule=SCHEDULE, placement=Placement(), device=CPU, rounds=1)
    found = tried.calibration
    assert (found.stage, found.rows, found.pieces) == ("generative", 4, 2), "two micro batches stand for six"
    assert found.flops_per_second == pytest.approx(tried.flops / tried.gradient_seconds)
    assert found.seconds(tried.flops, tried.trained) == pytest.approx(tried.gradient_seconds + tried.update_seconds)
    assert found.device == device_name(CPU) and found.way == "fp32, kept, in pieces" and tried.held is None
    store = Store(str(tmp_path))
    keep(store, found)
    widths = widths_of(GENERATIVE.cut(1), way_of(Placement(), "fp32", 2))
    assert kept(store, "generative", widths, found.device) == kept(store, "generative", widths) == found
    assert kept(store, "generative", widths, "H100") is None and kept(store, "instruct", widths) is None
    later = found.model_copy(update={"measured_at": "2999-01-01T00:00:00Z", "device": "another"})
    keep(store, later)
    assert kept(store, "generative", widths) == later, "the latest of several devices"
    other = widths_of(GENERATIVE, way_of(Placement(activation_checkpointing=True), "fp32", 2))
    assert kept(store, "generative", other) is None, "what is computed again takes longer"


def test_a_small_gpu_tries_fewer_layers_then_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[int, int]] = []

    def scarce(shape: Shape, rows: int, *given: Any, **more: Any) -> Trial:
        assert shape.towers is not None
        tries.append((shape.towers.text.num_hidden_layers, rows))
        if rows > 1:
            raise torch.OutOfMemoryError("full")
        return Trial(shape, rows, *given, **more)

    monkeypatch.setattr(calibration, "Trial", scarce)
    found = calibrate(GENERATIVE, 4, 1, schedule=SCHEDULE, placement=Placement(), device=CPU, layers=2, rounds=1)
    assert tries == [(2, 4), (1, 4), (1, 2), (1, 1)]
    assert (found.calibration.layers, found.calibration.rows) == (1, 1)

    def none(*_: Any, **__: Any) -> Trial:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(calibration, "Trial", none)
    with pytest.raises(torch.OutOfMemoryError):
        calibrate(GENERATIVE, 1, 1, schedule=SCHEDULE, placement=Placement(), device=CPU, layers=1, rounds=1)


@pytest.mark.parametrize(
    ("shape", "placement", "rows", "pieces"),
    [
        (GENERATIVE, Placement(workers=2), 32, 1),
        (GENERATIVE, Placement(workers=2, micro_batch_size=8), 8, 4),
        (Shape("instruct", packed=True, tokens=256, length=64), Placement(), 1, 16),
        (Shape("instruct", packed=True, tokens=64 * 64, length=64), Placement(), 1, 1),
    ],
)
def test_how_a_share_is_cut(shape: Shape, placement: Placement, rows: int, pieces: int) -> None:
    assert pieces_of(shape, placement, 64) == (rows, pieces)


def test_a_calibration_says_where_it_is_from() -> None:
    told = Calibration(
        stage="x", device="NVIDIA H100", way="bf16", widths="0", layers=4, rows=8, pieces=1, flops_per_second=2.0,
        update_seconds=0.5, torch="2.12", measured_at="2026-11-26T07:40:00Z",
    )  # fmt: skip
    assert told.source == "measured on NVIDIA H100, 2026-11-26" and told.seconds(10.0, 4) == 7.0
