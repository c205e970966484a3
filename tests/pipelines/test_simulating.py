"""`internvl simulate`: the table, the page, and which figures it went by."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipelines import simulation_steps
from pipelines.budget import SAMPLE_BYTES
from pipelines.cli import app
from pipelines.clusters import Gpus
from pipelines.simulation_input import Curve, Given, RowTime, Timed, row_time, simulated
from stages.download_price import Pace
from stages.simulation import Cluster, daly
from stages.simulation_page import drawn


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def call(*given: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *given])


def test_the_papers_runs_and_their_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["--seeds", "10", "--page", str(page), "--step-seconds", "10", "--step-seconds", "20"]
    result = call(*words, "--ms-per-row", "1000", "--price", "3", "--json")
    assert result.exit_code == 0, result.output
    data, first, second = json.loads(result.output)["runs"]
    assert data["calm"] == pytest.approx(6.03e9 / 256) and data["low"] <= data["median"] <= data["high"]
    assert first["calm"] > 175_000 * 10 and first["median"] > first["calm"], "stragglers, then failures and states"
    assert first["dollars"] == pytest.approx(first["median"] / 3600 * 640 * 3)
    assert first["where"] == "640 A100 of 80 GB in 80 machines" and second["where"].startswith("160 A100")
    assert first["interval"] == pytest.approx(daly(60, 6300 * 3600 / 80))
    assert "best of search" in page.read_text()
    assert 0.25 < first["searched"] / first["interval"] < 4, "the search ends near the formula"
    text = page.read_text()
    assert text.count("<svg") == 5 and "default-src 'none'" in text
    assert not re.search(r"<script|https?://|style=\"", text), "nothing is asked of anyone"
    assert call(*words, "--ms-per-row", "1000").exit_code == 0 and page.read_text() != ""
    first_bytes = page.read_bytes()
    call(*words, "--ms-per-row", "1000")
    assert page.read_bytes() == first_bytes, "the same figures give the same page"


def test_given_figures_come_before_measured_and_those_before_assumed() -> None:
    pace = Pace(cpu_seconds=1.0, work_seconds=50.0, urls=200)
    assert row_time(10, pace) == (0.01, "given")
    assert row_time(None, pace) == (0.25, "measured on 200 urls")
    assert row_time(None, None) == (0.05, "assumed")


def given(hours: float = 6300.0, store_rate: float = math.inf) -> Given:
    trainings = (
        Timed("contrastive", 175_000, 640, "A100", 10.0, "told"),
        Timed("generative", 80_000, 160, "A100", 20.0, ""),
    )
    machine = Cluster(1, hours, 600.0)
    return Given(machine, 16, 16, 8, 60.0, 2.0, 0.8, 10, RowTime(0.05, "told"), trainings, store_rate)


def test_steps_are_those_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both go by one function: what a plan says of a step is what the simulator takes."""
    asked: list[tuple[Any, ...]] = []

    def few(
        steps: object, trained: list[Any], states: object, store: object, gpus: Gpus, *, given: float
    ) -> list[Any]:
        asked.append((gpus.count, given))
        use = SimpleNamespace(share=0.25, source="measured here")
        return [
            SimpleNamespace(training=each, gpus=32, step_seconds=7.0, utilisation=use, said=("idles",))
            for each in trained
        ]

    monkeypatch.setattr(simulation_steps, "budgets", few)
    first, second = simulation_steps.planned_steps("32xH100", "", 0.25)
    assert (first.name, first.steps, first.gpus, first.step_seconds) == ("contrastive", 175_000, 32, 7.0)
    assert first.source == "idles; 25.0% of peak, measured here" and second.steps == 80_000
    assert asked == [(32, 0.25)]


def test_a_training_that_does_not_run_is_not_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(steps: object, trained: list[Any], *_: object, **__: object) -> list[Any]:
        return [SimpleNamespace(training=trained[0], step_seconds=0.0, utilisation=None, said=("does not run: why",))]

    monkeypatch.setattr(simulation_steps, "budgets", none)
    result = call("--cluster", "48xA100")
    assert result.exit_code == 2 and "does not run: why" in result.output


def test_the_store_may_decide() -> None:
    run = simulated(given(store_rate=1e8)).runs[0]
    assert run.calm == run.median == pytest.approx(6.03e9 * SAMPLE_BYTES / 1e8)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    once = call("--step-seconds", "1", "--page", str(tmp_path / "a.html"))
    assert once.exit_code == 2 and "given twice" in once.output
    nowhere = call("--step-seconds", "1", "--step-seconds", "1", "--page", str(tmp_path / "no" / "a.html"))
    assert nowhere.exit_code == 2 and "--page" in nowhere.output and "there is no folder" in nowhere.output
    missing = call("--pool", "pool/own@none", "--page", str(tmp_path / "a.html"))
    assert missing.exit_code == 2 and "pool/own@none" in missing.output


def test_more_failures_take_longer() -> None:
    runs = [simulated(given(hours)).runs[1].median for hours in (500.0, 50_000.0)]
    assert runs[0] > 1.05 * runs[1]


def test_a_curve_keeps_its_scale() -> None:
    curve = Curve("t <b>", "x", "days", ((1.0, 1.0, 2.0, 3.0), (1500.0, 2.0, 4.0, 6.0)), mark=10.0, marked="here")
    text = str(drawn(curve))
    assert "t &lt;b&gt;" in text and ">1.5k<" in text and ">here<" in text
    heights = [float(each) for each in re.findall(r"[\d.]+", re.search(r'class="median" d="([^"]+)"', text)[1])[1::2]]  # type: ignore[index]
    # From nought at 220 to 6.3 at 12: 2 and 4 stand where they should.
    assert heights == pytest.approx([220 - 208 * 2 / 6.3, 220 - 208 * 4 / 6.3], abs=0.1)


def test_a_pace_is_read_from_beside_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import pricing, simulating

    monkeypatch.setattr("stages.manifest.load", lambda store, ref: SimpleNamespace(ref=ref))
    monkeypatch.setattr(pricing, "pace_of", lambda store, pool: Pace(1.0, 2.0, 4))
    assert simulating._pace("pool/own@photos") == Pace(1.0, 2.0, 4)
    monkeypatch.setattr(pricing, "pace_of", lambda store, pool: Pace())
    with pytest.raises(simulating.Refusal, match="give --ms-per-row"):
        simulating._pace("pool/own@photos")
