"""The benchmark counts what it says it counts; how fast anybody is, is nothing a test can hold."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks import download
from benchmarks.download_clients import Run, measured
from benchmarks.download_web import MIXES, make_certificates, picture, serving, urls


def test_the_list_is_dirty_as_promised() -> None:
    listed, reachable = urls("https://127.0.0.1:99", "run", 200)
    kinds = [url.split("/")[3] for url in listed]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"plain": 188, "absent": 6, "busy": 4, "drip": 2}
    assert reachable == 192 and len(set(listed)) == 200
    assert len({url.split("/")[2] for url in listed}) == 64
    assert all(len(mix) == 20 and sum(kind == "PNG" for kind, *_ in mix) == 1 for mix in MIXES.values())
    assert 0.12 < len(picture("JPEG", 640, 480, 0)) / (640 * 480) < 0.25


def test_ours_keeps_every_reachable_picture_over_https(tmp_path: Path) -> None:
    trusted, server = make_certificates(tmp_path)
    with serving(0, server, "small") as base:
        listed, reachable = urls(base, "test", 45)
        run = measured("ours", listed, tmp_path / "run", trusted, 64)
    assert run.stored == reachable == 43
    assert run.cpu_seconds > 0 and run.wall_seconds > 0 and run.peak_bytes > 50e6


def test_a_client_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"wget ended with 2: (.|\n)*invalid choice: 'wget'"):
        measured("wget", ["http://127.0.1.1:9/x"], tmp_path / "run", tmp_path / "none.pem", 64)


def test_every_case_is_written_with_its_ratio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    def fake(client: str, listed: list[str], folder: Path, trusted: Path, image_size: int) -> Run:
        cpu, lost = {"ours": (0.002, 0), "img2dataset": (0.008, 2)}[client]
        stored = len(listed) * (96 - lost) // 100
        return Run(stored, cpu * stored, 2 * cpu * stored, 10**6 * len(listed))

    monkeypatch.setattr(download, "measured", fake)
    monkeypatch.setattr(download, "serving", lambda *_: nullcontext("https://127.0.0.1:99"))
    seen = []
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, text: (seen.append(path.name), write(path, text))[1])
    monkeypatch.setattr(download, "measure", lambda count, rounds: measure(download.CASES[:2], count, rounds))
    download.main(tmp_path / "results" / "download.json", count=400, rounds=2)
    assert seen.count("download.json") == 4
    result = json.loads((tmp_path / "results" / "download.json").read_text())
    assert list(result["cases"]) == ["http 0 ms, even, 224 px", "https 0 ms, even, 224 px"]
    for name, case in result["cases"].items():
        assert case["ratio"]["median"] == pytest.approx(4) and case["ratio"]["range"] == pytest.approx([4, 4])
        assert case["ratio"]["goal"] == download.GOALS[name.split()[0]]
        assert case["ours"]["cpu_ms_per_picture"] == pytest.approx(2)
        assert case["ours"]["pictures_per_second"] == pytest.approx(250)
        assert case["ours"]["kept_of_reachable"] == 1 and case["ours"]["peak_bytes"] == 400 * 10**6
        assert case["img2dataset"]["kept_of_reachable"] == pytest.approx(94 / 96, abs=1e-3)
    assert result["rounds"] == 2 and result["addresses"] == 400 and "commit" in result
    printed = capsys.readouterr().out
    assert "https 0 ms, even, 224 px" in printed and "goal 3.0" in printed and "97.9" in printed


measure = download.measure
