"""The GPU script, run with tiny sizes on the CPU, so that it is known to work when a GPU is at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_checks

ROOT = Path(__file__).parents[2]


def test_a_dry_run_measures_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--dry", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["stages"].keys() == {"S1-true", "S2-true", "S3-2B"}
    for name, ways in found["stages"].items():
        assert tuple(ways) == gpu.STAGES[name].ways
        assert all(measured["samples_per_second"] > 0 for measured in ways.values())
        assert all(measured["forecast"]["total"] > 0 for measured in ways.values())
        assert [way for way, measured in ways.items() if "forecast_seconds" not in measured] == [
            way for way in ways if "compiled" in way
        ], "compiled layers are not calibrated"
    for name in gpu_checks.CHECKS:
        single, half = (found["parity"][f"{name}, {precision}"] for precision in ("fp32", "bf16"))
        assert single["outputs"] < 1e-5, "the recording itself is met"
        assert 1e-4 < half["outputs"] < 0.1, "half precision was half precision, and is near"
    assert found["resume"]["bitwise"] and found["resume"]["replayed"] == found["resume"]["onward"]
    assert "dry run" in capsys.readouterr().out


def test_a_run_without_time_stops_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"device": "x", "stages": {}}, {"resume": {"bitwise": True}}]
    monkeypatch.setattr(gpu, "measure", lambda *_, **__: parts)
    assert gpu.main(["--dry", "--seconds", "0", "--out", str(tmp_path / "gpu.json")]) == 0
    assert json.loads((tmp_path / "gpu.json").read_text()) == parts[0]


def test_a_resumed_run_that_differs_is_not_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{"device": "x", "stages": {}}, {"resume": {"bitwise": False}}]
    monkeypatch.setattr(gpu, "measure", lambda *_, **__: found)
    assert gpu.main(["--dry", "--out", str(tmp_path / "gpu.json")]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_it_needs_only_what_a_borrowed_machine_has() -> None:
    """What else the project installs is not asked for."""
    code = """
import sys
import benchmarks.gpu
print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1:])))
"""
    command = [sys.executable, "-c", code, "pyarrow", "ray", "prefect", "transformers", "open_clip", "accelerate"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
