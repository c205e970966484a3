"""A dry run tells steps, states and costs, and makes nothing."""

import logging
from pathlib import Path

import pytest

from infra.storage import Store
from pipelines import dry_run
from pipelines.changes import rerun_steps
from pipelines.dry_run import markdown
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path))


def test_the_whole_road_is_priced_and_nothing_is_made(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    text = markdown(steps_of(FlowName.INTERNVL, RecipeName.PAPER), store)
    assert "| list_urls laion_en | listing/laion_en@paper | missing |" in text
    assert "| download laion_en | pool/laion_en@paper | waits for its inputs |" in text
    assert "downloaded yet: give the options of this run to internvl plan data --pilot 10000" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| contrastive |") and "e+" in line]
    assert line.count("|") == 9 and "–" not in line, "GPU hours of both cards are told, and the GPUs"
    assert store.keys() == []


def test_a_rerun_without_training_prices_no_training(tmp_path: Path) -> None:
    text = markdown(rerun_steps("filter", RecipeName.TINY, ["coyo"], []), Store(str(tmp_path / "store")))
    assert text.count("| filter ") == 2
    assert "### trainings" not in text and "### downloads" not in text


def test_only_what_would_run_is_priced_and_force_runs_what_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(FlowName.INTERNVL, RecipeName.PAPER)
    store = Store(str(tmp_path / "store"))
    standing = {"pool/laion_en", "checkpoints/contrastive"}
    monkeypatch.setattr(dry_run, "state_of", lambda step, _: "stands" if step.artifact in standing else "missing")
    text, forced = markdown(steps, store), markdown(steps, store, force=True)
    assert "| pool/laion_en@paper | stands |" in text and "| pool/laion_en@paper | is made again |" in forced
    assert "is made again" not in text and "| stands |" not in forced

    def priced(page: str, name: str) -> bool:
        return any(line.startswith((f"| {name} |", f"- {name}: ")) for line in page.splitlines())

    def trained(page: str) -> str:
        return page.partition("### trainings")[2]

    assert not priced(text, "laion_en") and not priced(trained(text), "contrastive"), "they stand and cost nothing"
    assert priced(forced, "laion_en") and priced(trained(forced), "contrastive")
    assert priced(trained(text), "generative"), "its shape follows from what stands"


def test_a_forced_dry_run_says_what_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(dry_run, "preflight", lambda *_: None)
    monkeypatch.setattr(dry_run, "state_of", lambda *_: "stands")
    monkeypatch.setattr(dry_run, "create_markdown_artifact", lambda text, key: shown.append(text))
    monkeypatch.setattr(dry_run, "get_run_logger", lambda: logging.getLogger("test"))
    steps = rerun_steps("filter", RecipeName.TINY, ["coyo"], [])
    for force in (False, True):
        assert dry_run.show(steps, force) == []
    assert ["is made again" in text for text in shown] == [False, True]
