"""The loader's benchmark runs, says what it measured, and says so where it cannot."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import loader
from stages.tars import tar_bytes

READERS = {"ours", "ours, full decode", "webdataset"}


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        out, side = io.BytesIO(), 480 if number < 2 else 80
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(out, "JPEG")
        samples.append((f"{number:06d}", {"jpg": out.getvalue()}))
    (folder / "some-photos.tar").write_bytes(tar_bytes(samples))
    return folder


def test_it_writes_a_whole_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(loader, "STEPS", 3)
    measured = partial(loader.measure, photos(tmp_path / "photos", 50), most=48, rounds=2, workers=(0,))
    monkeypatch.setattr(loader, "measure", measured)
    loader.main(tmp_path / "loader.json")
    result = json.loads((tmp_path / "loader.json").read_text())
    assert result["pictures"] == 48 and set(result["samples_per_cpu_second"]) == READERS
    assert tuple(result["ratios"]) == loader.PAIRS
    assert all(0 <= share <= 1 for share in result["waiting_share"].values())
    assert result["scaled_decode"]["pictures"] == 2 and result["scaled_decode"]["ratio"] > 0
    assert "samples per CPU second" in capsys.readouterr().out


def test_without_pictures_it_says_why_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.delenv(loader.PICTURES, raising=False)
    loader.main(tmp_path / "loader.json")
    assert "INTERNVL_BENCHMARK_PICTURES names no folder" in capsys.readouterr().out
    assert not (tmp_path / "loader.json").exists()
